-- Run by wrk: prints what was counted as one line of JSON. With an argument, a file with a path on each
-- line, the paths are asked for in turn with the Accept-Encoding of HttpArena, each request made anew as
-- its script static-rotate.lua does.

local HEADERS = { ["Accept-Encoding"] = "br;q=1, gzip;q=0.8" }

function init(arguments)
   if not arguments[1] then return end
   local paths, count = {}, 0
   for path in io.lines(arguments[1]) do paths[#paths + 1] = path end
   function request()
      count = count + 1
      return wrk.format("GET", paths[(count - 1) % #paths + 1], HEADERS)
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "errors": %d, "timeouts": %d, "bytes": %d, "seconds": %.6f, '
         .. '"p50_us": %d, "p99_us": %d, "max_us": %d, "mean_us": %.1f}\n',
      summary.requests, errors.connect + errors.read + errors.write + errors.status, errors.timeout,
      summary.bytes, summary.duration / 1e6,
      latency:percentile(50), latency:percentile(99), latency.max, latency.mean))
end

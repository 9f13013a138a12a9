// The requests of a plan by Node's http2, all at once on one connection; see http2_plan.py.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect } from "node:http2";

const [base, authority] = process.argv.slice(2);
const session = connect(base, { ca: readFileSync(authority) });

function ask([method, path, size, ...fields]) {
  const cancelled = method === "CANCEL";
  const headers = { ":method": cancelled ? "GET" : method, ":path": path };
  for (const field of fields) {
    const [name, value] = field.split(/: (.*)/s);
    headers[name.toLowerCase()] = value;
  }
  return new Promise((resolve) => {
    const stream = session.request(headers, { endStream: size === "0" });
    if (size !== "0") stream.end("x".repeat(Number(size)));
    const hash = createHash("sha256");
    let answer;
    let count = 0;
    const end = () => {
      const told = ["etag", "content-range", "content-length"].map((name) => answer[name] ?? "");
      resolve(["HTTP/2.0", answer[":status"], count, hash.digest("hex"), ...told].join("\t"));
    };
    stream.on("response", (received) => (answer = received));
    stream.on("error", (error) => resolve(`error\t${error}`));
    stream.on("data", (piece) => {
      if (cancelled && count) return;
      const taken = cancelled ? piece.subarray(0, 1) : piece;
      hash.update(taken);
      count += taken.length;
      if (cancelled) stream.close(8);
    });
    stream.on("close", () => (answer ? end() : resolve("error\tclosed without an answer")));
  });
}

session.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
const results = new Array(lines.length);
let next = 0;
async function work() {
  while (next < lines.length) {
    const number = next++;
    results[number] = await ask(lines[number].split("\t"));
  }
}
await Promise.all(Array.from({ length: 64 }, work));
console.log(results.join("\n"));
session.close();

// Updates a file as electron-updater does, with its own code for the ranges and their parser:
// node electron_delta.js URL OLDER NEWER EVERY LENGTH, where LENGTH bytes at the middle of each EVERY
// are fetched and all others copied.
"use strict"

const fs = require("fs")
const http = require("http")
const path = require("path")

const [url, older, newer, every, length] = process.argv.slice(2)
const updater = path.join(process.env.NODE_PATH, "electron-updater/out/differentialDownloader")
const { executeTasksUsingMultipleRangeRequests } = require(`${updater}/multipleRangeDownloader`)
const { OperationKind } = require(`${updater}/downloadPlanBuilder`)

function tasks(size) {
  const all = []
  let end = 0
  for (let at = Math.floor(every / 2); at < size; at += Number(every)) {
    const until = Math.min(at + Number(length), size)
    all.push({ kind: OperationKind.COPY, start: end, end: at })
    all.push({ kind: OperationKind.DOWNLOAD, start: at, end: until })
    end = until
  }
  if (end < size) {
    all.push({ kind: OperationKind.COPY, start: end, end: size })
  }
  return all
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

const downloader = {
  fileMetadataBuffer: null,
  options: {},
  createRequestOptions: () => ({ headers: {} }),
  httpExecutor: {
    createRequest: (options, callback) => http.request(url, options, callback),
    addErrorAndTimeoutHandlers: (request, reject) => request.on("error", reject),
  },
}
const out = fs.createWriteStream(newer)
out.on("error", fail)
const file = fs.openSync(older)
executeTasksUsingMultipleRangeRequests(downloader, tasks(fs.fstatSync(file).size), out, file, fail)(0)

// Perfetto's trace processor as its pages run it: what comes on standard input are its requests, its replies go out.
// node trace_processor.js FOLDER (which has engine_bundle.js and the trace processor for WebAssembly)
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];

// The bundle runs in a worker of a page, and asks that for its WebAssembly, in one go.
class FileRequest {
  open(method, name) {
    this.name = name;
  }
  send() {
    const bytes = fs.readFileSync(path.join(folder, path.basename(this.name)));
    this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  }
}

const quiet = { log() {}, warn() {}, error() {}, debug() {}, info() {} };
const worker = {
  console: quiet, WebAssembly, TextDecoder, TextEncoder, URL, performance, setTimeout, clearTimeout, crypto,
  Uint8Array, ArrayBuffer, TypeError, XMLHttpRequest: FileRequest, importScripts() {}, WorkerGlobalScope() {},
  location: { href: "http://localhost/" },
};
worker.self = worker;
vm.runInNewContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"), worker);

const port = { postMessage: (bytes) => fs.writeSync(1, Buffer.from(bytes)) };
worker.onmessage({ data: port });
// It is ready when what it began is done: a task later.
setTimeout(() => port.onmessage({ data: new Uint8Array(fs.readFileSync(0)) }), 0);

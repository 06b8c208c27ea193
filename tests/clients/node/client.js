// SPDX-License-Identifier: Apache-2.0
// Asks the data listener what a client may ask, and prints what came back as JSON.
//
//   node client.js TARGET PROTO REQUESTS
//
// TARGET is an address as gRPC writes it, PROTO the contract, REQUESTS a JSON file of requests in base64.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, proto, requestsFile] = process.argv.slice(2);
const requests = JSON.parse(fs.readFileSync(requestsFile, 'utf8'));
const definition = loader.loadSync(path.basename(proto), {
  includeDirs: [path.dirname(proto), path.resolve(path.dirname(proto), '../..')],
  keepCase: true,
  enums: String,
});
const service = definition['sidecar.v1.AuthorizationService'];
const { Authorize, BatchAuthorize } = service;

function call(client, method, message, metadata) {
  return new Promise((resolve) => {
    const bytes = Buffer.from(message, 'base64');
    const options = { deadline: Date.now() + 30000 };
    client.makeUnaryRequest(
      method.path, (same) => same, method.responseDeserialize, bytes, metadata || new grpc.Metadata(), options,
      (error, answer) => {
        if (!error) return resolve({ code: 0, answer });
        const details = error.metadata.get('grpc-status-details-bin');
        return resolve({
          code: error.code,
          message: error.details,
          details: details.length ? details[0].toString('base64') : '',
        });
      });
  });
}

async function main() {
  const client = new grpc.Client(target, grpc.credentials.createInsecure());
  const zipped = new grpc.Client(target, grpc.credentials.createInsecure(), { 'grpc.default_compression_algorithm': 2 });
  const metadata = new grpc.Metadata();
  metadata.set('trace-bin', Buffer.from([0, 1, 2, 255]));
  metadata.set('x-request-id', '7');
  const health = { path: '/grpc.health.v1.Health/Check', responseDeserialize: (bytes) => bytes.toString('hex') };
  const unknown = { path: '/sidecar.v1.AuthorizationService/Nothing', responseDeserialize: (bytes) => bytes };
  const many = await Promise.all(Array.from({ length: 100 }, () => call(client, Authorize, requests.allow)));
  const outcome = {
    allow: await call(client, Authorize, requests.allow, metadata),
    deny: await call(client, Authorize, requests.deny),
    batch: await call(client, BatchAuthorize, requests.batch),
    invalid: await call(client, Authorize, requests.invalid),
    oversize: await call(client, BatchAuthorize, requests.oversize),
    unknown: await call(client, unknown, requests.allow),
    compressed: await call(zipped, Authorize, requests.long),
    health: await call(client, health, ''),
    many: many.filter((one) => one.code === 0 && one.answer.decision === 'DECISION_ALLOW').length,
  };
  client.close();
  zipped.close();
  console.log(JSON.stringify(outcome));
}

main();

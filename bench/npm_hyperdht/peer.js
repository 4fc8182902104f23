/**
 * hyperdht in a host of the lab: `node peer.js network IP`, `listen IP` or `connect IP KEY`. Prints one line of JSON.
 */

import DHT from "hyperdht";

const BOOTSTRAP_PORT = 49737;

/** Its network has a few dozen nodes; it looks at some of them to judge its NAT. */
const NODES = 12;

/** As long as a punch of this library may take. */
const TIMEOUT_MS = 30_000;

const [role, ip, key] = process.argv.slice(2);
const bootstrap = [{ host: ip, port: BOOTSTRAP_PORT }];
const print = (value) => console.log(JSON.stringify(value));

if (role === "network") {
  await DHT.bootstrapper(BOOTSTRAP_PORT, ip).fullyBootstrapped();
  for (let index = 0; index < NODES; index++) {
    const node = new DHT({ bootstrap, host: ip, ephemeral: false, firewalled: false });
    await node.fullyBootstrapped();
  }
  print({ event: "ready" });
} else if (role === "listen") {
  const server = new DHT({ bootstrap }).createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => socket.write(data));
  });
  await server.listen();
  print({ event: "listening", key: server.publicKey.toString("hex") });
} else {
  const node = new DHT({ bootstrap });
  await node.fullyBootstrapped();
  const startedAtMs = performance.now();
  const socket = node.connect(Buffer.from(key, "hex"));
  const end = (result) => {
    print({ ...result, elapsedMs: performance.now() - startedAtMs });
    process.exit(0);
  };
  setTimeout(() => end({ outcome: "failed", reason: "timed out" }), TIMEOUT_MS);
  socket.on("error", ({ code, message }) => end({ outcome: "failed", reason: code ?? message }));
  socket.on("data", () => end({ outcome: "connected", remote: socket.rawStream.remoteHost }));
  socket.write("hello");
}

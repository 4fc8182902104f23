// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Whether the platform's TLS can be bound to the keys of a session, and what it tells of a path's end. No figures but
 * facts, for docs/session.md, which may change with the next version of Deno.
 *
 *     deno run -A bench/tls_binding.ts
 *
 * @module
 */

import { type Identity, makeIdentity } from "./self_signed.ts";
import { dialSocket, listenSocket } from "./tls_paths.ts";
import type net from "node:net";
import tls from "node:tls";

async function examine(): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "tls-binding-" });
  try {
    const authority = makeIdentity(NAME); // signs itself, as authorities do
    await Deno.writeTextFile(`${directory}/authority.pem`, authority.cert);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", import.meta.filename!, "dial", JSON.stringify(authority)],
      env: { DENO_CERT: `${directory}/authority.pem` },
      stderr: "inherit",
    }).output();
    console.log(JSON.stringify(
      {
        deno: Deno.version.deno,
        acceptsAnotherAuthority: JSON.parse(new TextDecoder().decode(stdout)),
        pskCallbacks: await countPskCallbacks(),
        nodeTlsEnd: {
          closed: await endOf("closed", false),
          closedWhilePaused: await endOf("closed", true),
          cutByFin: await endOf("fin", false),
          cutByReset: await endOf("reset", false),
        },
      },
      null,
      2,
    ));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** In a process that trusts an authority: whether its certificate will do although another one is named. */
async function dialAnother(authority: Identity): Promise<void> {
  const expected = makeIdentity(NAME);
  const listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, ...authority });
  (async () => {
    for await (const conn of listener) conn.handshake().catch(() => {}); // refused, as it should be
  })();
  const { port } = listener.addr as Deno.NetAddr;
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const denoStartTls = await Deno.startTls(conn, { hostname: NAME, caCerts: [expected.cert] })
    .then((secured) => secured.handshake())
    .then(() => true, () => false);
  const nodeTls = await new Promise<boolean>((resolve) => {
    tls.connect({ host: "127.0.0.1", port, servername: NAME, ca: [expected.cert] })
      .once("secureConnect", () => resolve(true)).once("error", () => resolve(false));
  });
  console.log(JSON.stringify({ "Deno.startTls": denoStartTls, "node:tls": nodeTls }));
  Deno.exit();
}

async function countPskCallbacks(): Promise<number> {
  let count = 0;
  const psk = new Uint8Array(32);
  const port = await listenSocket((socket) => {
    const options = { isServer: true, pskCallback: () => (count++, psk) };
    new tls.TLSSocket(socket, options as tls.TLSSocketOptions).on("error", () => {}); // no certificate
  });
  const options = { port, pskCallback: () => (count++, { psk, identity: "peer" }) };
  const socket = tls.connect(options as tls.ConnectionOptions);
  await new Promise<void>((resolve) => {
    socket.once("secureConnect", () => resolve()).once("error", () => resolve());
  });
  socket.destroy();
  return count;
}

/**
 * What a server of `node:tls` hears within a second once the client has written something and is gone.
 *
 * @param how `closed` says so with close_notify
 * @param pauses whether the server stops reading for a moment after each piece
 */
async function endOf(how: "closed" | "fin" | "reset", pauses: boolean): Promise<string> {
  const { cert, key } = makeIdentity(NAME);
  const { promise: heard, resolve } = Promise.withResolvers<string>();
  const port = await listenSocket((below) => {
    const secureContext = tls.createSecureContext({ cert, key });
    const socket = new tls.TLSSocket(below, { isServer: true, secureContext });
    socket.on("data", () => {
      if (!pauses) return;
      socket.pause();
      setTimeout(() => socket.resume(), 20);
    });
    socket.once("end", () => resolve("end")).once("error", ({ message }) => resolve(message));
  });
  const below: net.Socket = await dialSocket(port);
  const socket = tls.connect({ socket: below, servername: NAME, ca: [cert] });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => socket.write(new Uint8Array(65_536), resolve));
  }
  if (how === "closed") socket.end();
  else setTimeout(() => cut(below, how), 100); // the data has arrived
  const timer = setTimeout(() => resolve("nothing"), 1000);
  const result = await heard;
  clearTimeout(timer);
  return result;
}

/** Ends TCP below TLS, as somebody on the way could. */
function cut(below: net.Socket, how: "fin" | "reset"): void {
  if (how === "reset") below.resetAndDestroy();
  else below.end();
}

const NAME = "peer.invalid";

if (Deno.args[0] === "dial") await dialAnother(JSON.parse(Deno.args[1]!));
else {
  await examine();
  Deno.exit(); // some connections are still open
}

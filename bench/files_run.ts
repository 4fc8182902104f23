// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * How many files of the library one call runs: those that a reader may have to open, and that a program loads.
 *
 *     deno run -A bench/files_run.ts [--list]
 *
 * A connection has at most 75, and a mapping 28. A connection of two peers with a STUN server has some 25 more: what a STUN
 * message is and how it is read from a stream (4), what its answers show of the NAT (8), the dial back that tells what SYNs
 * from outside get (6), and paths over UDP (8). Each is a concept of its own and is loaded only where there is a server to
 * ask. Which side accepts is a matter of chance, so one file comes and goes; those of the relay run as well if a direct path
 * takes longer than usual, so the number varies with the load of the machine.
 *
 * Each call is a process of its own, on loopback, and its coverage shows which files were loaded and which of them ran a
 * function.
 *
 * @module
 */

const PROGRAMS: Readonly<Record<string, string>> = {
  connect: `
    import { Peer } from "LIB/peer/peer.ts";
    const [url, ticket] = Deno.args;
    await using peer = await Peer.open({ signaling: [url], servers: [], mapPorts: false, listen: false });
    await using connection = await peer.connect(ticket);
    await connection.write(new Uint8Array(1));
    await connection.read(new Uint8Array(1));`,
  // As with the public STUN servers: then UDP is gathered for beside TCP.
  connectWithStun: `
    import { Peer } from "LIB/peer/peer.ts";
    const [url, , ticket, stun] = Deno.args;
    await using peer = await Peer.open({ signaling: [url], servers: [stun], mapPorts: false, listen: false });
    await using connection = await peer.connect(ticket);
    await connection.write(new Uint8Array(1));
    await connection.read(new Uint8Array(1));`,
  mapPort: `
    import { mapPort } from "LIB/portmap/map_port.ts";
    const options = { protocol: "tcp", internalPort: 8080, gateway: "127.0.0.1" };
    await using mapping = await mapPort(options);`,
};

const LISTENER = `
  import { Peer } from "LIB/peer/peer.ts";
  import { serveRendezvous } from "LIB/signal/rendezvous/server.ts";
  import { systemNetwork as network } from "LIB/net/system.ts";
  import { serveStun } from "LIB/stun/server/server.ts";
  import { FakeGateway } from "LIB/../tests/portmap/fake_gateway/fake_gateway.ts";
  using gateway = await FakeGateway.start(network, { ip: "127.0.0.1", port: 5351 });
  await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
  await using stun = await serveStun({ network, address: "127.0.0.1", port: 0 });
  await using peer = await Peer.open({ signaling: [server.url], servers: [], mapPorts: false });
  const servers = ["127.0.0.1:" + stun.addresses[0].port];
  await using stunPeer = await Peer.open({ signaling: [server.url], servers, mapPorts: false });
  console.log(server.url, peer.ticket, stunPeer.ticket, servers[0]);
  await Promise.all([peer, stunPeer].map(async (peer) => {
    for await (const incoming of peer) {
      const connection = await incoming.accept();
      await connection.readable.pipeTo(connection.writable);
    }
  }));`;

const LIB = new URL("../lib", import.meta.url).href;
const folder = await Deno.makeTempDir({ prefix: "punchline-files-run-" });
const listener = await start("listener", LISTENER, [], "piped");
try {
  const words = await firstLine(listener.stdout);
  for (const [name, program] of Object.entries(PROGRAMS)) {
    const { loaded, ran } = await filesOf(name, program, name.startsWith("connect") ? words : []);
    console.log(JSON.stringify({ call: name, loaded: loaded.length, ran: ran.length }));
    const list = (path: string) => `  ${ran.includes(path) ? "runs" : "    "} ${path}`;
    if (Deno.args.includes("--list")) console.log(loaded.map(list).join("\n"));
  }
} finally {
  try {
    listener.kill();
  } catch { /* it has ended */ }
  await listener.status;
  await Deno.remove(folder, { recursive: true });
}

async function filesOf(name: string, program: string, args: readonly string[]) {
  const coverage = `${folder}/${name}`;
  const child = await start(name, program, args, "null", coverage);
  if (!(await child.status).success) throw new Error(`Cannot run ${name}`);
  const loaded = new Set<string>();
  const ran = new Set<string>();
  for await (const { name } of Deno.readDir(coverage)) {
    const { url, functions } = JSON.parse(await Deno.readTextFile(`${coverage}/${name}`));
    if (!url.startsWith(`${LIB}/`)) continue;
    const path = url.slice(LIB.length - 3);
    loaded.add(path);
    const isRun = ({ ranges: [range] }: { ranges: { startOffset: number; count: number }[] }) =>
      range!.startOffset > 0 && range!.count > 0; // what starts at 0 is the module itself
    if (functions.some(isRun)) ran.add(path);
  }
  return { loaded: [...loaded].sort(), ran: [...ran].sort() };
}

async function start(
  name: string,
  program: string,
  args: readonly string[],
  stdout: "piped" | "null",
  coverage?: string,
) {
  const file = `${folder}/${name}.ts`;
  await Deno.writeTextFile(file, program.replaceAll("LIB", LIB));
  const config = new URL("../deno.json", import.meta.url).pathname;
  const flags = ["--no-check", "-A", "--config", config];
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, ...coverage ? [`--coverage=${coverage}`] : [], file, ...args],
    stdout,
    stderr: "null",
  }).spawn();
}

async function firstLine(stdout: ReadableStream<Uint8Array>): Promise<string[]> {
  let text = "";
  for await (const chunk of stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    if (text.includes("\n")) break;
  }
  if (text === "") throw new Error("Cannot run the listener; is UDP port 5351 of 127.0.0.1 free?");
  return text.trim().split(" ");
}

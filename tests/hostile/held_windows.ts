/**
 * How much memory a peer can make a program hold that forwards its connections.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { Peer } from "../../lib/peer/peer.ts";
import { start, withServers } from "../cli/command.ts";

/**
 * Opens connections of one key to a `listen --tcp` whose service does not read, and fills their windows.
 *
 * @param fillMs how long to write
 * @returns how much more memory the program has than with one empty connection
 */
export async function heldWindowsMb(connectionCount: number, fillMs: number): Promise<number> {
  let heldMb = NaN;
  await withServers(async (servers) => {
    using service = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const stuck: Deno.Conn[] = [];
    const accepting = (async () => {
      for await (const each of service) stuck.push(each);
    })().catch(() => {});
    const listener = start(["listen", "--tcp", `${service.addr.port}`, ...servers.all]);
    const ticket = await listener.ticket();
    await using mad = await Peer.open({
      listen: false,
      servers: [servers.stun],
      signaling: [servers.url],
    });
    const connections = [await mad.connect(ticket)];
    const beforeMb = await residentMb(listener.pid);
    while (connections.length < connectionCount) connections.push(await mad.connect(ticket));
    const block = new Uint8Array(1_000_000);
    const writing = connections.map(async (each) => {
      for (let i = 0; i < 12; i++) await each.write(block);
    });
    await Promise.race([Promise.allSettled(writing), delay(fillMs)]);
    heldMb = await residentMb(listener.pid) - beforeMb;
    for (const each of connections) each.reset();
    await Promise.allSettled(writing);
    await Promise.all(connections.map((each) => each[Symbol.asyncDispose]()));
    listener.interrupt();
    await listener.end();
    for (const each of stuck) each.close();
    service.close();
    await accepting;
  });
  return heldMb;
}

async function residentMb(pid: number): Promise<number> {
  const ps = new Deno.Command("ps", { args: ["-o", "rss=", "-p", `${pid}`] });
  const { stdout } = await ps.output();
  return Math.round(Number(new TextDecoder().decode(stdout)) / 1000);
}

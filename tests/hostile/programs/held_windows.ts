/**
 * Opens connections of one key to a `listen --tcp` whose service does not read, fills their windows, and prints how much
 * memory the program holds for that: `deno run -A tests/hostile/programs/held_windows.ts 40`
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { Peer } from "../../../lib/peer/peer.ts";
import { start, withServers } from "../../cli/command.ts";

const count = Number(Deno.args[0] ?? 40);

await withServers(async (servers) => {
  using service = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    const stuck: Deno.Conn[] = [];
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
  while (connections.length < count) connections.push(await mad.connect(ticket));
  const block = new Uint8Array(1_000_000);
  const writing = connections.map(async (each) => {
    for (let i = 0; i < 12; i++) await each.write(block);
  });
  await Promise.race([Promise.allSettled(writing), delay(6000)]);
  const heldMb = await residentMb(listener.pid) - beforeMb;
  Deno.stdout.writeSync(
    new TextEncoder().encode(`${JSON.stringify({ connections: count, heldMb })}\n`),
  );
  listener.kill();
  await listener.end();
  service.close();
  await accepting;
});
Deno.exit();

async function residentMb(pid: number): Promise<number> {
  const ps = new Deno.Command("ps", { args: ["-o", "rss=", "-p", `${pid}`] });
  const { stdout } = await ps.output();
  return Math.round(Number(new TextDecoder().decode(stdout)) / 1000);
}

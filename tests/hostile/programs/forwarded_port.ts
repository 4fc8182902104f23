/**
 * Counts how many connections a second get through a forwarded port, `listen --tcp` and `connect --tcp` on this machine:
 * `deno run -A tests/hostile/programs/forwarded_port.ts 600`
 *
 * @module
 */

import { start, withServers } from "../../cli/command.ts";

const count = Number(Deno.args[0] ?? 600);

await withServers(async (servers) => {
  await using web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    return new Response("here");
  });
  const port = freePort();
  const listener = start(["listen", "--tcp", `${web.addr.port}`, ...servers.all]);
  const ticket = await listener.ticket();
  const connector = start(["connect", ticket, "--tcp", `${port}`, ...servers.connecting]);
  await connector.prints("Forwarding");
  const perSecond: number[] = [];
  let open = 0;
  for (let rest = count; rest > 0; rest -= 100) { // the burst is over after 256
    const startedAtMs = performance.now();
    await Promise.all(Array.from({ length: 8 }, async () => {
      while (open < Math.min(count, count - rest + 100)) {
        open++;
        await visit(port);
      }
    }));
    perSecond.push(Math.round(100_000 / (performance.now() - startedAtMs)));
  }
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify({ count, perSecond })}\n`));
  for (const each of [connector, listener]) each.interrupt();
  await Promise.all([connector.end(), listener.end()]);
});

async function visit(port: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
  await response.text();
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

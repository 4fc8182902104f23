/** What a signaling server does to a peer that listens there, and elsewhere. */

import { assertEquals } from "@std/assert";
import { Peer } from "../../lib/peer/peer.ts";
import { decodeTicket, encodeTicket } from "../../lib/peer/ticket.ts";
import { startCommand, startProgram } from "../proof/process.ts";

for (const kind of ["pings", "messages"]) {
  Deno.test(`a signaling server that sends ${kind} without a pause does not make a peer unreachable over another`, async () => {
    await using hostile = startProgram("hostile_rendezvous", [kind]);
    await using server = startCommand([
      ...["serve", "--json", "--address", "127.0.0.1", "--port", "0", "--rendezvous-port", "0"],
    ]);
    const { stun, rendezvous } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
    const attacked = await hostile.prints(/"url":"([^"]+)"/);
    await using listener = startCommand([
      ...["listen", "--tcp", "9", "--server", stun[0]],
      ...["--rendezvous", attacked, "--rendezvous", rendezvous],
    ]);
    const ticket = decodeTicket(await listener.prints(/(punchline:[\w-]{60,})/));
    const honest = encodeTicket({ ...ticket, signaling: [rendezvous] });
    await hostile.prints(/"isFlooding":true/);
    await using peer = await Peer.open({ signaling: [rendezvous], servers: stun, listen: false });
    let connected = 0;
    for (let i = 0; i < 5; i++) {
      try {
        const connection = await peer.connect(honest, { signal: AbortSignal.timeout(5000) });
        connection.reset();
        connected++;
      } catch {
        // counted
      }
    }
    assertEquals(connected, 5);
  });
}

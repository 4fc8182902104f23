/**
 * The rules of RFC 9293 and RFC 5961 that decide whether hole punching works, segment by segment.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { TcpFlags } from "../../lab/model/nat_packet.ts";
import type { TcpPacket } from "./packet.ts";
import { TcpSocket } from "./tcp_socket.ts";
import { VirtualTime } from "./virtual_time.ts";

const LOCAL = { ip: "192.0.2.1", port: 1000 };
const REMOTE = { ip: "192.0.2.2", port: 2000 };

Deno.test("in SYN-SENT a RST counts only if it acknowledges the SYN", () => {
  using _time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ rst: true }, { sequence: 0 }));
  socket.receive(segment({ rst: true, ack: true }, { acknowledgment: 100 }));
  assertEquals([...log], ["syn 100"]);
  socket.receive(segment({ rst: true, ack: true }, { acknowledgment: 101 }));
  assertEquals(socket.error, "refused");
  assertEquals([...log], ["syn 100", "gone"]);
});

Deno.test("in SYN-SENT an answer to an earlier dial gets RST, and the SYN is retransmitted at once", async () => {
  using time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ syn: true, ack: true }, { sequence: 500, acknowledgment: 51 }));
  assertEquals([...log], ["syn 100", "rst 51"]);
  await time.run(() => delay(2));
  assertEquals([...log], ["syn 100", "rst 51", "syn 100"]);
  socket.receive(segment({ ack: true }, { sequence: 501, acknowledgment: 51 }));
  await time.run(() => delay(900)); // only once
  assertEquals([...log], ["syn 100", "rst 51", "syn 100", "rst 51"]);
  socket.close();
});

Deno.test("in SYN-SENT an ACK without SYN is ignored", () => {
  using _time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ ack: true }, { sequence: 500, acknowledgment: 101 }));
  assertEquals([...log], ["syn 100"]);
  socket.close();
});

Deno.test("a crossing SYN is answered with SYN/ACK, and either SYN/ACK or ACK establishes the connection", () => {
  using _time = new VirtualTime();
  for (const flags of [{ syn: true, ack: true }, { ack: true }]) {
    const { socket, log } = dialled();
    socket.receive(segment({ syn: true }, { sequence: 500 }));
    assertEquals([...log], ["syn 100", "syn+ack 100/501"]);
    const sequence = "syn" in flags ? 500 : 501;
    socket.receive(segment(flags, { sequence, acknowledgment: 101 }));
    assertEquals([...log], ["syn 100", "syn+ack 100/501", "open"]);
    socket.reset();
  }
});

Deno.test("in SYN-RECEIVED a RST counts only with exactly the next sequence number", () => {
  using _time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ syn: true }, { sequence: 500 }));
  log.length = 0;
  socket.receive(segment({ rst: true, ack: true }, { sequence: 0, acknowledgment: 101 }));
  assertEquals([...log], [], "out of the window, as from a NAT");
  socket.receive(segment({ rst: true }, { sequence: 502 }));
  assertEquals([...log], ["ack 101/501"], "a challenge ACK");
  socket.receive(segment({ rst: true }, { sequence: 501 }));
  assertEquals(socket.error, "reset");
});

Deno.test("in SYN-RECEIVED an ACK of another number gets RST", () => {
  using _time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ syn: true }, { sequence: 500 }));
  log.length = 0;
  socket.receive(segment({ ack: true }, { sequence: 501, acknowledgment: 51 }));
  assertEquals([...log], ["rst 51"]);
  socket.close();
  socket.forget();
});

Deno.test("in SYN-RECEIVED a new SYN of a peer that redials gets a challenge ACK", () => {
  using _time = new VirtualTime();
  const { socket, log } = dialled();
  socket.receive(segment({ syn: true }, { sequence: 500 }));
  log.length = 0;
  socket.receive(segment({ syn: true }, { sequence: 900 }));
  assertEquals([...log], ["ack 101/501"]);
  socket.receive(segment({ rst: true }, { sequence: 501 })); // the peer's answer to that
  assertEquals(socket.error, "reset");
});

Deno.test("a SYN/ACK is repeated at once for a repeated SYN to a listener, and on Linux's schedules", async () => {
  using time = new VirtualTime();
  const passive = unopened();
  const active = dialled();
  const syn = segment({ syn: true }, { sequence: 500 });
  passive.socket.answer(syn);
  passive.socket.receive(syn);
  assertEquals([...passive.log], ["syn+ack 100/501", "syn+ack 100/501"]);
  active.socket.receive(syn);
  await time.run(() => delay(62_999));
  assertEquals(passive.log.length, 2 + 5);
  await time.run(() => delay(1));
  assertEquals(passive.socket.error, "timed-out");
  await time.run(() => delay(64_000));
  assertEquals(active.log.length, 1 + 7 + 1);
  assertEquals(active.socket.error, "timed-out");
});

Deno.test("ICMP errors end a handshake, but not an established connection", () => {
  using _time = new VirtualTime();
  const states = {
    sent: dialled().socket,
    received: dialled().socket,
    established: established().socket,
  };
  states.received.receive(segment({ syn: true }, { sequence: 500 }));
  for (const socket of Object.values(states)) socket.receiveError("host-unreachable");
  assertEquals(states.sent.error, "unreachable");
  assertEquals(states.received.error, "unreachable");
  assertEquals(states.established.error, undefined);
});

Deno.test("an established connection answers a SYN or stray RST with a challenge ACK", () => {
  using _time = new VirtualTime();
  const { socket, log } = established();
  socket.receive(segment({ syn: true }, { sequence: 900 }));
  socket.receive(segment({ syn: true, ack: true }, { sequence: 500, acknowledgment: 101 }));
  socket.receive(segment({ rst: true }, { sequence: 700 }));
  assertEquals([...log], ["ack 101/501", "ack 101/501", "ack 101/501"]);
  assertEquals(socket.error, undefined);
  socket.receive(segment({ rst: true }, { sequence: 501 }));
  assertEquals(socket.error, "reset");
});

Deno.test("data for a connection that the program has closed gets RST", () => {
  using _time = new VirtualTime();
  const { socket, log } = established();
  socket.close();
  socket.receive(segment({ ack: true }, {
    sequence: 501,
    acknowledgment: 102,
    data: new Uint8Array(3),
  }));
  assertEquals([...log], ["fin+ack 101/501", "rst 102", "gone"]);
});

Deno.test("close() in SYN-SENT sends nothing; in SYN-RECEIVED it sends FIN once established", () => {
  using _time = new VirtualTime();
  const sent = dialled();
  sent.socket.close();
  assertEquals([...sent.log], ["syn 100", "gone"]);
  const received = dialled();
  received.socket.receive(segment({ syn: true }, { sequence: 500 }));
  received.socket.close();
  received.socket.receive(segment({ ack: true }, { sequence: 501, acknowledgment: 101 }));
  assertEquals(received.log.slice(2), ["open", "fin+ack 101/501"]);
  received.socket.forget();
});

Deno.test("in TIME-WAIT a repeated FIN is acknowledged, and a later SYN may open a new connection", () => {
  using _time = new VirtualTime();
  const { socket, log } = established();
  socket.close();
  const fin = segment({ fin: true, ack: true }, { sequence: 501, acknowledgment: 102 });
  socket.receive(fin);
  socket.receive(fin);
  assertEquals([...log], ["fin+ack 101/501", "ack 102/502", "ack 102/502"]);
  assertEquals(socket.yieldsTo(segment({ syn: true }, { sequence: 400 })), false);
  assertEquals(socket.yieldsTo(segment({ syn: true }, { sequence: 600 })), true);
  assertEquals(socket.hasLingered(59_999), false);
  assertEquals(socket.hasLingered(60_000), true);
});

Deno.test("the side that closes second drops the connection when its FIN is acknowledged", () => {
  using _time = new VirtualTime();
  const { socket, log } = established();
  socket.receive(segment({ fin: true, ack: true }, { sequence: 501, acknowledgment: 101 }));
  socket.close();
  socket.receive(segment({ ack: true }, { sequence: 502, acknowledgment: 102 }));
  assertEquals([...log], ["ack 101/502", "fin+ack 101/502", "gone"]);
});

/** A socket whose SYN has number 100, and a log of its segments and callbacks. */
function unopened(): { socket: TcpSocket; log: string[] } {
  const log: string[] = [];
  const socket = new TcpSocket({
    local: LOCAL,
    remote: REMOTE,
    initialSequence: 100,
    send: (packet) => log.push(describe(packet)),
    onOpen: () => log.push("open"),
    onGone: () => log.push("gone"),
  });
  return { socket, log };
}

function dialled(): { socket: TcpSocket; log: string[] } {
  const { socket, log } = unopened();
  socket.dial();
  return { socket, log };
}

/** An established socket: its next number is 101, the peer's 501. */
function established(): { socket: TcpSocket; log: string[] } {
  const { socket, log } = dialled();
  socket.receive(segment({ syn: true, ack: true }, { sequence: 500, acknowledgment: 101 }));
  log.length = 0;
  return { socket, log };
}

function segment(
  tcpFlags: TcpFlags,
  content: { sequence?: number; acknowledgment?: number; data?: Uint8Array },
): TcpPacket {
  return {
    protocol: "tcp",
    source: REMOTE,
    destination: LOCAL,
    tcpFlags,
    sequence: 0,
    acknowledgment: 0,
    window: 1000,
    data: new Uint8Array(),
    ...content,
  };
}

/** Flags, sequence number and acknowledgment: `syn+ack 100/501`. */
function describe({ tcpFlags, sequence, acknowledgment }: TcpPacket): string {
  const { syn, fin, rst, ack } = tcpFlags;
  const flags = [syn && "syn", fin && "fin", rst && "rst", ack && "ack"].filter(Boolean).join("+");
  return ack ? `${flags} ${sequence}/${acknowledgment}` : `${flags} ${sequence}`;
}

/**
 * A room for three and more: each member is connected to every other, so the room goes on whoever leaves it.
 *
 *     deno run --allow-net examples/room.ts ann              opens a room, and prints its ticket
 *     deno run --allow-net examples/room.ts bob TICKET       joins it, with the ticket of any member
 *
 * What you type goes to everyone. `/who` lists the members, `/ticket` prints your ticket, and Ctrl-D leaves the room.
 *
 * To use your own rendezvous instead of public brokers, set RENDEZVOUS=ws://HOST:3480 and add
 * `--allow-env=RENDEZVOUS`.
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { decodeTicket, Peer, type PeerConnection } from "@punchline/punchline/peer";

/** What members send each other as lines of JSON: who they are, how to reach the others, and what is typed. */
interface Message {
  readonly hello?: Member;
  readonly tickets?: readonly string[];
  readonly text?: string;
}

interface Member {
  readonly name: string;
  readonly ticket: string;
}

/** Anyone with a ticket of a member may join, and send anything. */
const MAX_CONNECTIONS = 32;
const MAX_LINE = 65_536;

const [name, ticket] = Deno.args;
if (name === undefined) {
  console.error("Usage: room.ts NAME [TICKET]");
  Deno.exit(2);
}
const { state } = await Deno.permissions.query({ name: "env", variable: "RENDEZVOUS" });
const rendezvous = state === "granted" ? Deno.env.get("RENDEZVOUS") : undefined;
const signaling = rendezvous === undefined ? undefined : [rendezvous];

/** The other members by their IDs. */
const members = new Map<string, Member>();
/** The IDs of those that this program is connecting to. */
const dialled = new Set<string>();

await using peer = await Peer.open({
  signaling,
  protocol: "room/1",
  timings: { reconnectMs: 10_000 }, // a member that is away for longer has left
}).catch(fail);
greetAll();
acceptAll();
if (ticket === undefined) console.log(`The room's ticket: ${peer.ticket}`);
else await waiting("Joining the room", join(ticket)).catch(fail);

for await (const line of lines(Deno.stdin.readable)) {
  if (line === "/who") console.log([name, ...namesOf(members.values())].join(", "));
  else if (line === "/ticket") console.log(peer.ticket);
  else if (line !== "") { for (const id of members.keys()) send(id, { text: line }); }
}
await Promise.all(peer.connections.map((connection) => connection[Symbol.asyncDispose]()));
Deno.exit();

function fail({ message }: Error): never {
  console.error(message);
  Deno.exit(1);
}

/** Says what is waited for if it takes a second, and with a dot each second after that. */
async function waiting<T>(what: string, job: Promise<T>): Promise<T> {
  const say = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  let seconds = 0;
  const timer = setInterval(() => say(seconds++ === 0 ? what : "."), 1000);
  try {
    return await job;
  } finally {
    clearInterval(timer);
    if (seconds > 0) say("\n");
  }
}

/** Accepts every peer that has a member's ticket. */
async function acceptAll(): Promise<void> {
  for await (const incoming of peer) {
    if (peer.connections.length >= MAX_CONNECTIONS) incoming.refuse("busy");
    else incoming.accept().catch((error) => console.error(error.message));
  }
}

/** Connects to a member, if there is no connection yet. */
async function join(ticket: string): Promise<void> {
  const id = idOf(ticket);
  if (id === peer.id || dialled.has(id) || peer.connections.some(isOf(id))) return;
  if (peer.connections.length + dialled.size >= MAX_CONNECTIONS) return;
  dialled.add(id);
  try {
    await peer.connect(ticket);
  } catch (error) {
    console.error((error as Error).message);
  }
  dialled.delete(id);
}

/** Greets each new connection, and says which members have left. */
async function greetAll(): Promise<void> {
  for await (const { event, connection } of peer.events) {
    const { remoteId: id } = connection;
    if (event === "opened") meet(connection);
    else if (!peer.connections.some(isOf(id))) {
      if (members.has(id)) console.log(`* ${members.get(id)!.name} has left`);
      members.delete(id);
    }
  }
}

/** Two that dial each other may have two connections: both are read, and one of them is written. */
async function meet(connection: PeerConnection): Promise<void> {
  write(connection, { hello: { name: name!, ticket: peer.ticket } });
  tellPresence(connection);
  try {
    for await (const line of lines(connection.readable)) receive(connection, line);
    connection.close();
  } catch { // it has left, or sends something else
    connection.reset();
  }
}

/** A newcomer connects to those who were here before: of any two, one is told about the other. */
function receive(connection: PeerConnection, line: string): void {
  const { remoteId: id } = connection;
  const { hello, tickets = [], text } = JSON.parse(line) as Message;
  if (hello !== undefined && !members.has(id)) {
    const member = { name: shown(hello.name).slice(0, 32), ticket: hello.ticket };
    if (idOf(member.ticket) !== id) throw new Error("Not a ticket of this member");
    write(connection, { tickets: [...members.values()].map(({ ticket }) => ticket) });
    members.set(id, member);
    console.log(`* ${member.name} is here`);
  }
  for (const ticket of tickets) join(ticket);
  const sender = members.get(id);
  if (text !== undefined && sender) console.log(`${sender.name}: ${shown(text)}`);
}

/** A member whose path is lost is away, until there is another path or it has left. */
async function tellPresence({ remoteId, events }: PeerConnection): Promise<void> {
  let isAway = false;
  for await (const { event } of events) {
    if ((event === "lost") === isAway) continue; // it has moved to a better path
    isAway = !isAway;
    console.log(`* ${members.get(remoteId)?.name} is ${isAway ? "away" : "back"}`);
  }
}

function send(id: string, message: Message): void {
  const connection = peer.connections.find(isOf(id));
  if (connection !== undefined) write(connection, message);
}

function write(connection: PeerConnection, message: Message): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(message)}\n`);
  connection.write(bytes).catch(() => {}); // it has left, which is an event
}

/** The lines of a text. */
async function* lines(input: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of input.pipeThrough(new TextDecoderStream())) {
    const [first, ...others] = text.split("\n");
    const whole = [rest + first, ...others];
    rest = whole.pop()!;
    yield* whole;
    if (rest.length > MAX_LINE) throw new Error("Too long a line");
  }
}

function idOf(ticket: string): string {
  return decodeTicket(ticket).publicKey.toBase64({ alphabet: "base64url", omitPadding: true });
}

function isOf(id: string): (connection: PeerConnection) => boolean {
  return ({ remoteId }) => remoteId === id;
}

function namesOf(all: Iterable<Member>): string[] {
  return [...all].map(({ name }) => name).sort();
}

/** Without what would move the cursor. */
function shown(text: string): string {
  return text.replaceAll(/\p{C}/gu, "");
}

import { assertEquals } from "@std/assert";
import { openPeerInput } from "../../lib/cli/peer_options.ts";
import { ConnectionEvents } from "../../lib/cli/peer_events.ts";
import { TicketUrls } from "../../lib/cli/ticket_urls.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { DialPolicy } from "../../lib/peer/dial_policy.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { noTerminal } from "./no_terminal.ts";

Deno.test("a server that is skipped has its reason and its remedy in fields of their own", () => {
  const lines: string[] = [];
  const { signal } = new AbortController();
  const io = { out() {}, err: (line: string) => lines.push(line), ...noTerminal(), signal };
  const urls = new TicketUrls(openPeerInput(io), new ConnectionEvents(io, { asJson: true }), {});
  assertEquals(urls.allow("ws://home.example:3480", ["10.0.0.7"]), false);
  assertEquals(lines.map((line) => JSON.parse(line)), [{
    event: "signaling",
    url: "ws://home.example:3480",
    state: "skipped",
    reason: "it leads to 10.0.0.7",
    remedy: "If you trust it, add --rendezvous ws://home.example:3480",
  }]);
});

Deno.test("the servers of a ticket are looked up once, to judge them and to dial them", async () => {
  const lookups: string[] = [];
  const network = networkWith(systemNetwork, {
    resolve: (hostname, family) => {
      lookups.push(`${hostname} ${family}`);
      return Promise.resolve(family === 4 ? ["10.0.0.7"] : []);
    },
  });
  const url = "ws://home.example:3480";
  const ticket = encodeTicket({
    publicKey: new Uint8Array(32).fill(1),
    secret: new Uint8Array(16),
    signaling: [url, "ws://192.0.2.7:3480"],
  });
  const { signal } = new AbortController();
  const io = { out() {}, err() {}, ...noTerminal(), signal };
  const events = new ConnectionEvents(io, { asJson: false });
  const urls = new TicketUrls(openPeerInput(io), events, { network });
  urls.agree([`${url} 10.0.0.7`]);
  await urls.ask(ticket, { asks: "never", failsEarly: true });
  const policy = new DialPolicy({ network: urls.network, named: [], allowUrl: urls.allow });
  const dialled = await policy.networkFor(url, signal);
  assertEquals(await dialled.resolve("home.example", 4), ["10.0.0.7"]);
  assertEquals(lookups, ["home.example 4", "home.example 6"]);
});

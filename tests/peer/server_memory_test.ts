import { assertEquals } from "@std/assert";
import { ServerMemory } from "../../lib/peer/pools.ts";
import { PUBLIC_BROKERS } from "../../lib/signal/open.ts";

const RENDEZVOUS = [1, 2, 3, 4, 5, 6].map((number) => `wss://meet${number}.example`);
const [BROKER, OTHER] = PUBLIC_BROKERS as [string, string];

Deno.test("of a ticket's rendezvous servers, at most four are used, and all else", () => {
  const memory = new ServerMemory();
  const urls = ["lan:", ...RENDEZVOUS, "mqtt://broker.example"];
  assertEquals(memory.choose(urls, 0).now, [
    ...RENDEZVOUS.slice(0, 4),
    "lan:",
    "mqtt://broker.example",
  ]);
  assertEquals(memory.choose(urls, 0).spare, RENDEZVOUS.slice(4));
});

Deno.test("those that worked come first, the nearest before others, and those that failed last", () => {
  const memory = new ServerMemory();
  const [one, two, three, four, five, six] = RENDEZVOUS as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  memory.noteFailed(one, 0);
  memory.noteOpened(six);
  memory.noteRtt(six, 80);
  memory.noteOpened(five);
  memory.noteRtt(five, 20);
  memory.noteRtt(five, 30); // waited for a lost packet
  assertEquals(memory.rttMsOf(five), 20);
  assertEquals(memory.choose(RENDEZVOUS, 0).now, [five, six, two, three]);
  memory.noteOpened(one);
  memory.noteFailed(five, 0);
  assertEquals(memory.choose([five, four, one], 0).now, [one, four, five]);
});

Deno.test("a public broker that is dead is left out for ten minutes, if another server works", () => {
  const memory = new ServerMemory();
  memory.noteFailed(BROKER, 1000);
  memory.noteOpened("lan:"); // which says nothing about servers
  assertEquals(memory.choose([BROKER, OTHER, "lan:"], 2000).now, [BROKER, OTHER, "lan:"]);
  memory.noteOpened(OTHER);
  assertEquals(memory.choose([BROKER, OTHER, "lan:"], 2000).now, [OTHER, "lan:"]);
  assertEquals(memory.choose([BROKER], 2000).now, [BROKER]);
  assertEquals(memory.choose([BROKER, OTHER], 601_000).now, [BROKER, OTHER]);
  memory.noteFailed(BROKER, 700_000);
  memory.noteOpened(BROKER);
  assertEquals(memory.choose([BROKER, OTHER], 700_001).now, [BROKER, OTHER]);
  // A server of somebody's own is not judged: the user gave its ticket, and it may be the only way.
  memory.noteFailed("mqtt://broker.example", 0);
  assertEquals(memory.choose(["mqtt://broker.example", OTHER], 1).now, [
    "mqtt://broker.example",
    OTHER,
  ]);
});

Deno.test("after an outage of this host, in which all servers failed, all of them are used again", () => {
  const memory = new ServerMemory();
  const urls = ["lan:", BROKER, OTHER];
  for (const url of urls) memory.noteOpened(url);
  for (const url of [BROKER, OTHER]) memory.noteFailed(url, 1000);
  assertEquals(memory.choose(urls, 2000).now, urls);
  memory.noteOpened(OTHER);
  assertEquals(memory.choose(urls, 3000).now, ["lan:", OTHER]);
});

Deno.test("only the servers that were used last are remembered", () => {
  const memory = new ServerMemory();
  for (let number = 0; number < 1000; number++) {
    memory.noteRtt(`ws://host${number}.example`, number);
  }
  assertEquals(memory.rttMsOf("ws://host0.example"), undefined);
  assertEquals(memory.rttMsOf("ws://host999.example"), 999);
});

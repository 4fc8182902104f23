import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeConfig, encodeConfig, isFriendName } from "../../lib/cli/config_message.ts";

Deno.test("settings are read back as they were written", () => {
  const texts = fc.array(fc.string(), { maxLength: 3 });
  const name = fc.stringMatching(/^[a-z][a-z0-9._-]{0,20}$/).filter((each) => each !== "__proto__");
  const friend = fc.record({ ticket: fc.string(), servers: texts });
  fc.assert(
    fc.property(
      fc.record({
        ...{ rendezvous: texts, mqtt: texts, turn: texts },
        proxy: fc.constantFrom(undefined, "http://a:b@proxy.example", "@/home/a/proxy"),
        key: fc.option(fc.string(), { nil: undefined }),
        peers: fc.array(fc.tuple(name, friend), { maxLength: 3 }).map((each) => new Map(each)),
      }),
      (config) => assertEquals(decodeConfig(encodeConfig(config)), config),
    ),
  );
});

Deno.test("settings may leave everything out", () => {
  const none = {
    rendezvous: [],
    mqtt: [],
    turn: [],
    proxy: undefined,
    key: undefined,
    peers: new Map(),
  };
  assertEquals(decodeConfig("{}"), none);
  assertEquals(encodeConfig(none), "{}\n");
});

Deno.test("decodeConfig() names what is wrong", () => {
  const cases: [string, string][] = [
    ["", "not JSON"],
    ["[]", "an object is needed"],
    ['{ "rendezvouz": [] }', '"rendezvouz" is unknown'],
    ['{ "rendezvous": "ws://a" }', "rendezvous is a list"],
    ['{ "turn": [1] }', "turn is a list"],
    ['{ "key": 1 }', "key is a path"],
    ['{ "proxy": ["http://a"] }', "proxy is a URL"],
    ['{ "proxy": "-" }', "proxy is a URL"],
    ['{ "peers": [] }', "peers: an object"],
    ['{ "peers": { "7up": { "ticket": "" } } }', '"7up" is not a name'],
    ['{ "peers": { "a": {} } }', "peers.a.ticket is a text"],
    ['{ "peers": { "a": { "ticket": "", "servers": 1 } } }', "peers.a.servers is a list"],
  ];
  for (const [text, message] of cases) {
    assertThrows(() => decodeConfig(text), MalformedMessageError, message);
  }
});

Deno.test("decodeConfig() throws nothing else, whatever it gets", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
    try {
      decodeConfig(text);
    } catch (error) {
      assertEquals(error instanceof MalformedMessageError, true);
    }
  }));
});

Deno.test("a friend's name cannot be taken for a code, a ticket, a file or an option", () => {
  for (const name of ["laptop", "Anna", "x", "work.desk-2"]) assertEquals(isFriendName(name), true);
  for (
    const name of ["7-abacus", "punchline:AAAA", "@file", "-", "--json", "", "a b", "a".repeat(65)]
  ) {
    assertEquals(isFriendName(name), false, name);
  }
});

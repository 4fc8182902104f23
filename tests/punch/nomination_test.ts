import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { AttemptRecord, nominate, proveBoth } from "../../lib/punch/nomination.ts";
import { at } from "../simnet/fixtures.ts";
import { addBoth, HELLO_BYTES, meet, readAll, readExactly, SECRET } from "./nomination_pair.ts";

Deno.test("an attempt lists the pairs of addresses that were tried, and of many the first 32", () => {
  const record = new AttemptRecord("punch-udp", "40 ports of 192.0.2.1", "birthday", "udp");
  assertEquals(record.toAttempt().candidates, []);
  for (let port = 1; port <= 40; port++) record.tried(`192.0.2.1:${port}`);
  record.tried("192.0.2.1:1", "10.0.0.2:4000");
  record.addCandidate("192.0.2.1:1", null);
  const local = { ip: "10.0.0.2", port: 4000 };
  record.settle("nominated", { local, remote: { ip: "192.0.2.1", port: 2 } });
  const { candidates, tries, outcome } = record.toAttempt();
  assertEquals([candidates.length, tries, outcome], [32, 41, "connected"]);
  assertEquals(candidates.slice(0, 3), [
    { transport: "udp", local: "10.0.0.2:4000", remote: "192.0.2.1:1" },
    { transport: "udp", local: "10.0.0.2:4000", remote: "192.0.2.1:2" },
    { transport: "udp", local: null, remote: "192.0.2.1:3" },
  ]);
});

Deno.test("Nomination agrees on the only connection", () =>
  meet(async ({ connect, nomination }) => {
    await using controlling = nomination("controlling");
    await using controlled = nomination("controlled");
    const ends = await connect();
    assertEquals(await addBoth(ends, [controlling, controlled]), ["nominated", "nominated"]);
    assertEquals((await controlling.winner).connection, ends[0]);
    assertEquals((await controlled.winner).connection, ends[1]);
    await ends[0].write(Uint8Array.of(1, 2, 3));
    assertEquals(await readExactly(ends[1], 3), Uint8Array.of(1, 2, 3));
    for (const end of ends) end.close();
  }));

Deno.test("Nomination reads nothing beyond the nomination", () =>
  meet(async ({ connect, nomination }) => {
    await using controlled = nomination("controlled");
    const [mine, theirs] = await connect();
    const outcome = controlled.add(theirs);
    await proveBoth(mine, SECRET, "controlling");
    await nominate(mine, SECRET);
    await mine.write(Uint8Array.of(7, 8));
    assertEquals(await outcome, "nominated");
    assertEquals(await readExactly(theirs, 2), Uint8Array.of(7, 8));
    for (const end of [mine, theirs]) end.close();
  }));

Deno.test("Nomination agrees on one of many connections, and resets the others", () =>
  meet(async ({ connect, nomination }) => {
    await using controlling = nomination("controlling");
    await using controlled = nomination("controlled");
    const ends: Awaited<ReturnType<typeof connect>>[] = [];
    for (let i = 0; i < 20; i++) ends.push(await connect());
    const outcomes = Promise.all(ends.map(async (pair, index) => {
      await delay(3 * (index % 7));
      return await addBoth(pair, [controlling, controlled]);
    }));
    const [a, b] = await Promise.all([controlling.winner, controlled.winner]);
    await controlling[Symbol.asyncDispose]();
    await controlled[Symbol.asyncDispose]();
    const agreed = ends.findIndex(([end]) => end === a.connection);
    assertEquals(ends[agreed]![1], b.connection);
    for (const [index, [mine, theirs]] of (await outcomes).entries()) {
      assertEquals([mine === "nominated", theirs === "nominated"], Array(2).fill(index === agreed));
    }
    a.connection.close();
    b.connection.close();
  }));

for (
  const [name, say] of [
    ["a host that sends random bytes", () => crypto.getRandomValues(new Uint8Array(HELLO_BYTES))],
    ["a web server", () => new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n".repeat(4))],
    ["a host that sends zeros", () => new Uint8Array(HELLO_BYTES)],
    ["a host that sends letters of a greeting", () => new Uint8Array(HELLO_BYTES).fill(0xb0)],
  ] as const
) {
  Deno.test(`Nomination rejects ${name}`, () =>
    meet(async ({ connect, nomination }) => {
      for (const role of ["controlling", "controlled"] as const) {
        await using side = nomination(role);
        const [mine, theirs] = await connect();
        const outcome = side.add(mine);
        await theirs.write(say());
        assertEquals(await outcome, "not-authenticated");
        assertEquals((await readAll(theirs)).length, HELLO_BYTES);
        assertEquals(side.nominated, undefined);
        theirs.close();
      }
    }));
}

Deno.test("Nomination rejects its own proof, sent back to it", () =>
  meet(async ({ connect, nomination }) => {
    for (const role of ["controlling", "controlled"] as const) {
      await using side = nomination(role);
      const [mine, theirs] = await connect();
      const outcome = side.add(mine);
      await theirs.write(await readExactly(theirs, HELLO_BYTES));
      assertEquals(await outcome, "not-authenticated");
      assertEquals((await readAll(theirs)).length, 0);
      theirs.close();
    }
  }));

Deno.test("Nomination rejects its own proof, sent back on another connection", () =>
  meet(async ({ connect, nomination }) => {
    await using side = nomination("controlling");
    const [[one, oneThere], [two, twoThere]] = [await connect(), await connect()];
    const outcomes = Promise.all([side.add(one), side.add(two)]);
    await twoThere.write(await readExactly(oneThere, HELLO_BYTES));
    await oneThere.write(await readExactly(twoThere, HELLO_BYTES));
    assertEquals(await outcomes, ["not-authenticated", "not-authenticated"]);
    for (const end of [oneThere, twoThere]) end.close();
  }));

Deno.test("Nomination rejects a peer with another secret", () =>
  meet(async ({ connect, nomination }) => {
    await using controlling = nomination("controlling");
    await using controlled = nomination("controlled", Uint8Array.of(1, 2, 3));
    const outcomes = await addBoth(await connect(), [controlling, controlled]);
    // The side that notices first resets, and the other side sees the reset.
    assert(outcomes.includes("not-authenticated"), `${outcomes}`);
    assert(!outcomes.includes("nominated"), `${outcomes}`);
  }));

Deno.test("Nomination rejects a peer with the right secret and the wrong role", () =>
  meet(async ({ connect, nomination }) => {
    for (const role of ["controlling", "controlled"] as const) {
      await using one = nomination(role);
      await using other = nomination(role);
      const outcomes = await addBoth(await connect(), [one, other]);
      assert(outcomes.includes("not-authenticated"), `${outcomes}`);
      assertEquals([one.nominated, other.nominated], [undefined, undefined]);
    }
  }));

Deno.test("Nomination accepts a proof that comes one byte at a time", () =>
  meet(async ({ connect, nomination }) => {
    await using controlling = nomination("controlling");
    await using controlled = nomination("controlled");
    const [mine, theirs] = await connect();
    const drop = { ...theirs } as typeof theirs;
    drop.read = (buffer) => theirs.read(buffer.subarray(0, 1));
    drop.write = (data) => theirs.write(data.subarray(0, 1));
    drop.reset = () => theirs.reset();
    assertEquals(await addBoth([mine, drop], [controlling, controlled]), [
      "nominated",
      "nominated",
    ]);
    for (const end of [mine, theirs]) end.close();
  }));

for (const count of [0, 1, 4, HELLO_BYTES - 1]) {
  Deno.test(`Nomination gives up on a peer that sends ${count} bytes and no more`, () =>
    meet(async ({ connect, nomination }) => {
      const startedMs = performance.now();
      await using side = nomination("controlling");
      const [mine, theirs] = await connect();
      const outcome = side.add(mine);
      if (count > 0) await theirs.write(HELLO.subarray(0, count));
      assertEquals(await outcome, "not-authenticated");
      assert(performance.now() - startedMs < 4100, `after ${performance.now() - startedMs} ms`);
      theirs.close();
    }));
}

Deno.test("Nomination rejects a wrong nomination after the right proof", () =>
  meet(async ({ connect, nomination }) => {
    await using controlled = nomination("controlled");
    const [mine, theirs] = await connect();
    const outcome = controlled.add(theirs);
    await proveBoth(mine, SECRET, "controlling");
    await mine.write(new Uint8Array(32));
    assertEquals(await outcome, "not-authenticated");
    mine.close();
  }));

Deno.test("Nomination takes the first of two nominations, and resets the second connection", () =>
  meet(async ({ connect, nomination }) => {
    await using controlled = nomination("controlled");
    const [[one, oneThere], [two, twoThere]] = [await connect(), await connect()];
    const outcomes = Promise.all([controlled.add(oneThere), controlled.add(twoThere)]);
    await Promise.all([one, two].map((end) => proveBoth(end, SECRET, "controlling")));
    await Promise.all([one, two].map((end) => nominate(end, SECRET)));
    assertEquals(await outcomes, ["nominated", "not-nominated"]);
    assertEquals((await controlled.winner).connection, oneThere);
    for (const end of [one, two, oneThere]) end.close();
  }));

for (const step of ["before the proof", "in the proof", "before the nomination"] as const) {
  Deno.test(`Nomination calls a connection broken ${step}, and takes the next one`, () =>
    meet(async ({ connect, nomination }) => {
      await using controlled = nomination("controlled");
      const [mine, theirs] = await connect();
      const outcome = controlled.add(theirs);
      if (step === "in the proof") await mine.write(HELLO.subarray(0, 10));
      if (step === "before the nomination") await proveBoth(mine, SECRET, "controlling");
      await delay(100);
      mine.reset();
      assertEquals(await outcome, "broken");
      await using controlling = nomination("controlling");
      const ends = await connect();
      assertEquals(await addBoth(ends, [controlling, controlled]), ["nominated", "nominated"]);
      for (const end of ends) end.close();
    }));
}

Deno.test("Nomination nominates another connection if the first one breaks meanwhile", () =>
  meet(async ({ connect, nomination }) => {
    await using controlling = nomination("controlling");
    await using controlled = nomination("controlled");
    const [mine, theirs] = await connect();
    const broken = { ...mine } as typeof mine;
    let writes = 0;
    broken.read = (buffer) => mine.read(buffer);
    broken.reset = () => mine.reset();
    broken.write = (data) => {
      if (++writes === 2) mine.reset();
      return mine.write(data);
    };
    assertEquals((await addBoth([broken, theirs], [controlling, controlled]))[0], "broken");
    const ends = await connect();
    assertEquals(await addBoth(ends, [controlling, controlled]), ["nominated", "nominated"]);
    for (const end of ends) end.close();
  }));

Deno.test("Nomination returns no connection that is disposed of at the moment of its nomination", () =>
  meet(async ({ connect, nomination }) => {
    const controlled = nomination("controlled");
    const [mine, theirs] = await connect();
    const ending = { ...theirs } as typeof theirs;
    let length = 0;
    ending.write = (data) => theirs.write(data);
    ending.reset = () => theirs.reset();
    ending.read = async (buffer) => {
      const count = await theirs.read(buffer);
      length += count ?? 0;
      // The last bytes of the nomination have arrived, and the side is disposed of before it checks them.
      if (length === HELLO_BYTES + 32) disposed = controlled[Symbol.asyncDispose]();
      return count;
    };
    let disposed: Promise<void> | undefined;
    const outcome = controlled.add(ending);
    await proveBoth(mine, SECRET, "controlling");
    await nominate(mine, SECRET);
    assertEquals(await outcome, "not-nominated");
    await disposed;
    assertEquals(controlled.nominated, undefined);
    mine.close();
  }));

Deno.test("Nomination settles every connection when it is disposed", () =>
  meet(async ({ connect, nomination }) => {
    const side = nomination("controlling");
    const [mine, theirs] = await connect();
    const outcome = side.add(mine);
    await side[Symbol.asyncDispose]();
    assertEquals(await outcome, "not-nominated");
    const [late, lateThere] = await connect();
    assertEquals(await side.add(late), "not-nominated");
    for (const end of [theirs, lateThere]) end.close();
  }));

Deno.test("Nomination finds the peer in a crowd of connections that send nothing", () =>
  meet(async ({ a, b, nomination }) => {
    await using controlled = nomination("controlled");
    await using controlling = nomination("controlling");
    using listener = await b.network.listenTcp(at(b, 80));
    const accepting = (async () => {
      for (;;) void controlled.add(await listener.accept());
    })().catch(() => {});
    for (let crowd = 0; crowd < 40; crowd++) {
      const silent = await Promise.all(
        Array.from({ length: 50 }, () => a.network.connectTcp(at(b, 80))),
      );
      if (crowd === 20) void controlling.add(await a.network.connectTcp(at(b, 80)));
      await delay(1);
      for (const each of silent) each.close();
    }
    const [mine, theirs] = await Promise.all([controlling.winner, controlled.winner]);
    listener.close();
    await accepting;
    for (const { connection } of [mine, theirs]) connection.close();
  }));

/** The beginning of a proof. */
const HELLO = new Uint8Array(HELLO_BYTES).fill(0xbf);

/**
 * Versions of the session that do not know each other. The bytes of the first version were recorded from the last program
 * that spoke it.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { inVirtualTime } from "./fixtures.ts";
import { testPathPair } from "./test_path.ts";

/** What a dialer of version 1 sends first: HELLO. */
const HELLO_1 = Uint8Array.fromHex("01010000000100000000000000000000000000400000");

/** What this version sends first. A listener of version 1 answers it with nothing, and closes the path. */
const HELLO_2 = Uint8Array.fromHex("01020000000100000000000000000000000002000000");

/** What a listener of version 3 would answer. */
const HELLO_3 = HELLO_2.with(1, 3);

Deno.test("a listener tells a dialer of version 1 its version, and knows which side to update", () =>
  inVirtualTime(async () => {
    const session = new StreamSession({ role: "controlled" });
    const [path, other] = testPathPair();
    const attaching = session.attach(path).catch(() => {});
    await other.write(HELLO_1);
    const error = await assertRejects(() => session.finished, MalformedMessageError, "version 1");
    assertEquals(error.remedy, "Update Punchline on the other side");
    const answer = new Uint8Array(100);
    assertEquals(await other.read(answer), HELLO_2.length);
    assertEquals(answer[1], 2); // which that dialer names in its message
    await attaching;
    other.close();
  }));

Deno.test("a dialer begins with its version, and a listener of version 1 cuts its path without a word", () =>
  inVirtualTime(async () => {
    const session = new StreamSession({ role: "controlling" });
    const [path, other] = testPathPair();
    const attaching = assertRejects(() => session.attach(path), NetworkError);
    const first = new Uint8Array(100);
    assertEquals(await other.read(first), HELLO_2.length);
    assertEquals(first.subarray(0, HELLO_2.length), HELLO_2);
    other.close();
    await attaching;
    session.reset();
  }));

Deno.test("a dialer learns from a newer listener that this side has to be updated", () =>
  inVirtualTime(async () => {
    const session = new StreamSession({ role: "controlling" });
    const [path, other] = testPathPair();
    const attaching = session.attach(path).catch(() => {});
    await other.write(HELLO_3);
    const error = await assertRejects(() => session.finished, MalformedMessageError, "version 3");
    assertEquals(error.remedy, "Update Punchline on this side");
    await attaching;
    other.close();
  }));

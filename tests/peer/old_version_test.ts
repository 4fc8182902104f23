/**
 * A listener of the first version ends its connection when it reads of a newer one, and closes the path without a word:
 * `tests/session/versions_test.ts` has its bytes.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { PeerConnection } from "../../lib/peer/connection.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";

for (const reconnect of [true, false]) {
  Deno.test(`connect() to a listener of the first version says which side to update, reconnect: ${reconnect}`, () =>
    inPeerScene({}, async ({ a, b, open }) => {
      await using alice = await open(a, { listen: false, reconnect });
      await using bob = await open(b, { listen: true });
      bob.serve(() => {}, { onError: () => {} });
      using _old = cuttingPathsUnheard();
      const connection = await alice.connect(bob.ticket);
      const error = await assertRejects(() => connection.finished, NetworkError);
      const remedy = "Connect again; if that fails as well, update Punchline on the other side";
      assertEquals([error.remedy, error.reason], [remedy, "reset"]);
      assertEquals(error.message.includes("or runs an older version"), reconnect);
    }));
}

/** Makes listeners behave like the first version. */
function cuttingPathsUnheard(): Disposable {
  const { move } = PeerConnection.prototype;
  PeerConnection.prototype.move = function (found) {
    if (this.isControlling) return move.call(this, found);
    found.connection.close();
    const why = new NetworkError("Cannot continue: version 2 is unknown", "other");
    this.abandon(why);
    return Promise.reject(why);
  };
  return { [Symbol.dispose]: () => void (PeerConnection.prototype.move = move) };
}

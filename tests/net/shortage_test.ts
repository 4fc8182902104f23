import { assertEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { isShortage, mayOpenSockets } from "../../lib/net/shortage.ts";
import { systemNetwork } from "../../lib/net/system.ts";

Deno.test("mayOpenSockets() finds out whether there are file descriptors, and keeps none", async () => {
  assertEquals(await mayOpenSockets(systemNetwork, 4), true); // an open socket would fail the test
  const tooMany = Object.assign(new Error("too many open files"), { code: "EMFILE" });
  let free = 3;
  const network = networkWith(systemNetwork, {
    bindUdp: (local, options) => {
      if (free-- > 0) return systemNetwork.bindUdp(local, options);
      const cannot = new NetworkError("Cannot bind UDP", "other", { cause: tooMany });
      return Promise.reject(cannot);
    },
  });
  assertEquals(await mayOpenSockets(network, 4), false);
});

Deno.test("mayOpenSockets() takes no other failure for a shortage", async () => {
  const network = networkWith(systemNetwork, {
    bindUdp: () => Promise.reject(new NetworkError("Cannot bind UDP", "not-permitted")),
  });
  assertEquals(await mayOpenSockets(network, 2), true);
});

Deno.test("a shortage of files is recognized beneath other errors", () => {
  const cause = Object.assign(new Error("open files"), { code: "ENFILE" });
  assertEquals(isShortage(new Error("outer", { cause: new Error("inner", { cause }) })), true);
  assertEquals(isShortage(new Error("outer", { cause: new Error("inner") })), false);
  assertEquals(isShortage("EMFILE"), false);
});

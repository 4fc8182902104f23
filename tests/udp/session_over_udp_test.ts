/**
 * Sessions over Noise records over UDP and TCP: the layers above run on either unchanged, and move between them.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { secureConnectionFromKeys } from "../../lib/noise/secure_connection.ts";
import { Session } from "../../lib/session/session.ts";
import { readSome } from "../session/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import { toHex } from "../../lib/base/bytes.ts";
import { hash } from "../../lib/base/crypto.ts";
import { udpPair } from "./fixtures.ts";

for (const loss of [0, 0.02, 0.1]) {
  Deno.test(`an encrypted stream moves from TCP to UDP and back while it runs, at ${loss * 100} % loss`, async () => {
    await simulate(async ({ internet }) => {
      const link = { delayMs: 10, loss: loss / 2 };
      await using a = new Session({ role: "controlling" });
      await using b = new Session({ role: "controlled" });
      using udp = await udpPair(internet, link, {}, " by UDP");
      const data = crypto.getRandomValues(new Uint8Array(60_000));
      const whole = new Uint8Array(10 * data.length);
      for (let i = 0; i < 10; i++) whole.set(data, i * data.length);

      await attach(a, b, await tcpPair(internet, "first", link));
      const writing = (async () => {
        await writeAll(a, whole);
        await a.closeWrite();
      })();
      const first = await readSome(b, 100_000);
      await attach(a, b, [udp.a, udp.b]);
      const second = await readSome(b, 250_000);
      assert(udp.b.rttMs !== undefined, "nothing went over UDP");
      await attach(a, b, await tcpPair(internet, "second", link));
      const third = await readSome(b, 250_000);
      await writing;
      assertEquals(await b.read(new Uint8Array(1)), null);
      const received = [...first, ...second, ...third];
      assertEquals(toHex(hash("sha256", Uint8Array.from(received))), toHex(hash("sha256", whole)));
      await b.closeWrite();
      await Promise.all([a.finished, b.finished]);
      await Promise.all([udp.a.released, udp.b.released]);
    });
  });
}

async function attach(
  a: Session,
  b: Session,
  [one, other]: readonly [TcpConnection, TcpConnection],
): Promise<void> {
  const secured = [secure(one, 1), secure(other, 2)] as const;
  await Promise.all([a.attach(secured[0]), b.attach(secured[1])]);
}

function secure(connection: TcpConnection, own: 1 | 2) {
  const key = (value: number) => new Uint8Array(32).fill(value);
  const handshakeHash = new Uint8Array(32);
  return secureConnectionFromKeys(connection, {
    sendKey: key(own),
    receiveKey: key(3 - own),
    handshakeHash,
  });
}

async function tcpPair(
  internet: Internet,
  name: string,
  link: { delayMs: number; loss: number },
): Promise<[TcpConnection, TcpConnection]> {
  const [a, b] = [internet.host(`a ${name}`, { link }), internet.host(`b ${name}`, { link })];
  using listener = await b.network.listenTcp({ ip: b.addresses[0]!, port: 80 });
  return await Promise.all([a.network.connectTcp(listener.local), listener.accept()]);
}

import { assert, assertEquals } from "@std/assert";
import { writeAll } from "../../lib/base/reader.ts";
import { pattern, readAll } from "../session/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import { udpPair } from "./fixtures.ts";

for (const loss of [0, 0.02, 0.1]) {
  Deno.test(`a stream arrives whole in both directions at ${loss * 100} % loss`, async () => {
    await simulate(async ({ internet, time }) => {
      using pair = await udpPair(internet, { delayMs: 13, loss: loss / 2 });
      const data = pattern(1_000_000);
      const send = async (end: typeof pair.a) => {
        await writeAll(end, data);
        await end.closeWrite();
      };
      const [, , atA, atB] = await Promise.all([
        send(pair.a),
        send(pair.b),
        readAll(pair.a),
        readAll(pair.b),
      ]);
      assertEquals(atA, data);
      assertEquals(atB, data);
      console.log(loss, time.nowMs);
      pair.a.close();
      pair.b.close();
      await Promise.all([pair.a.released, pair.b.released]);
      console.log(loss, time.nowMs);
    });
  });
}

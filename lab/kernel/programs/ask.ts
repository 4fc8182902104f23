// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Asks whoami.ts over UDP: `ask.ts LOCAL_PORT COUNT INTERVAL_MS IP:PORT`. Prints {@linkcode Answers} as JSON, once
 * everything is answered or {@linkcode TIMEOUT_MS} after the last question.
 *
 * @module
 */

import { ipFamily, parseTransportAddress } from "../../../lib/net/address.ts";

/** What came back. */
export interface Answers {
  /** Different answers, in the order in which they came first. */
  readonly texts: readonly string[];
  /** Of every answer, in the order in which they came. */
  readonly roundTripsMs: readonly number[];
}

async function ask(
  localPort: number,
  count: number,
  intervalMs: number,
  to: string,
): Promise<Answers> {
  const { ip, port } = parseTransportAddress(to);
  const hostname = ipFamily(ip) === 6 ? "::" : "0.0.0.0";
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: localPort });
  const texts = new Set<string>();
  const roundTripsMs: number[] = [];
  const sentMs: number[] = [];

  const answered = (async () => {
    for await (const [answer] of socket) {
      // Answers come in the order of the questions but for loss and jitter, which the callers do without here.
      roundTripsMs.push(performance.now() - sentMs[roundTripsMs.length]!);
      texts.add(new TextDecoder().decode(answer));
      if (roundTripsMs.length === count) return;
    }
  })();
  for (let i = 0; i < count; i++) {
    if (i > 0) await new Promise((resolve) => setTimeout(resolve, intervalMs));
    sentMs.push(performance.now());
    await socket.send(new Uint8Array(1), { transport: "udp", hostname: ip, port });
  }
  const deadline = setTimeout(() => socket.close(), TIMEOUT_MS);
  await answered;
  clearTimeout(deadline);
  return { texts: [...texts], roundTripsMs };
}

/** Ours: much longer than any path of the lab's own tests takes. */
const TIMEOUT_MS = 1000;

if (import.meta.main) {
  const [localPort, count, intervalMs, to] = Deno.args;
  const answers = await ask(Number(localPort), Number(count), Number(intervalMs), to!);
  console.log(JSON.stringify(answers));
}

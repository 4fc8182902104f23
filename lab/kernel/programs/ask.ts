// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Sends requests to whoami.ts over UDP: `ask.ts LOCAL_PORT COUNT INTERVAL_MS IP:PORT`. Prints {@linkcode Answers} as
 * JSON once all are answered, or {@linkcode TIMEOUT_MS} after the last request.
 *
 * @module
 */

import { ipFamily, parseTransportAddress } from "../../../lib/net/address.ts";

/** The answers. */
export interface Answers {
  /** Distinct answers, in the order of their first arrival. */
  readonly texts: readonly string[];
  /** The round trip of each answer, in the order of arrival. */
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
      // Callers use paths without loss and jitter, so the answers arrive in the order of the requests.
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

/** Chosen by us: much longer than any round trip in the lab's own tests. */
const TIMEOUT_MS = 1000;

if (import.meta.main) {
  const [localPort, count, intervalMs, to] = Deno.args;
  const answers = await ask(Number(localPort), Number(count), Number(intervalMs), to!);
  console.log(JSON.stringify(answers));
}

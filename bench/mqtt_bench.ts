// deno-lint-ignore-file no-console
/**
 * How long a message takes from one peer to another through mosquitto, compared with a bare TCP echo: see
 * `signal_latency.ts`. `baselines/mqtt.json` keeps the ratios.
 *
 *     deno run -A bench/mqtt_bench.ts [--update]
 *
 * Fails if a ratio is more than twice the baseline's. Needs Linux, mosquitto and openssl.
 *
 * @module
 */

import { mqttTransport } from "../lib/signal/mqtt/mod.ts";
import { Mosquitto } from "../tests/interop/mosquitto.ts";
import { compareWithEcho, judge, startEcho } from "./signal_latency.ts";

async function measure() {
  await using broker = await Mosquitto.start();
  await using secureBroker = await Mosquitto.start({ tls: true });
  await using echo = await startEcho();
  const compare = (name: string, url: string, caCerts: readonly string[] = []) =>
    compareWithEcho(name, mqttTransport(url, { caCerts }), echo.connection);
  return {
    tcp: await compare("TCP", broker.url("mqtt")),
    tls: await compare("TLS", secureBroker.url("mqtts"), [secureBroker.caCert]),
    webSocket: await compare("WebSocket", broker.url("mqtt+ws")),
  };
}

if (import.meta.main) {
  const figures = await measure().catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log("Install mosquitto and openssl (Debian packages of the same names)");
    Deno.exit(1);
  });
  judge(figures, new URL("./baselines/mqtt.json", import.meta.url));
}

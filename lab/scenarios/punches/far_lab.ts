/**
 * Two homes that are far apart, with servers in between: the lab of whole punches.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import { nat } from "../../kernel/topology.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { SERVER_IPS } from "./punch_lab.ts";

/** The round trip between a home and a server. */
export const TO_SERVER_MS = 51;

/** The round trip between the NATs. */
export const BETWEEN_NATS_MS = 82;

/** Starts the lab with the hosts `a`, `b` and `servers`, and the servers there. */
export async function startFarLab(): Promise<Lab> {
  const home = () => nat("portRestricted", { link: { delayMs: BETWEEN_NATS_MS / 4 } });
  const serverDelayMs = (TO_SERVER_MS - BETWEEN_NATS_MS / 2) / 2;
  const lab = await Lab.start({
    hosts: {
      servers: { addresses: SERVER_IPS, link: { delayMs: serverDelayMs } },
      a: { behind: home() },
      b: { behind: home() },
    },
  });
  await STUN_SERVERS.punchline(lab.host("servers"));
  return lab;
}

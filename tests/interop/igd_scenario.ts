/**
 * Uses UPnP from its host: `deno run igd_scenario.ts COMMAND GATEWAY [JSON]...`. Prints each result as a line of JSON.
 *
 * `serve GATEWAY REQUEST...` maps the ports and echoes everything that arrives there, until it is killed; `renew`,
 * `release` and `check` take grants; `probe` and `list` take nothing; `time GATEWAY REQUEST COUNT` maps and releases
 * COUNT times, each time with a new mapper, and prints milliseconds; `load GATEWAY REQUEST COUNT CALLERS` maps COUNT
 * ports, CALLERS at a time, and prints how many entries the table had then, and afterwards.
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { igdMapper } from "../../lib/portmap/upnp/client.ts";
import type { MappingGrant, MappingRequest } from "../../lib/portmap/mapper.ts";

const [command = "", gateway = "", ...rest] = Deno.args;
const values: unknown[] = rest.map((text) => JSON.parse(text, (_, value) => value ?? Infinity));
const mapper = newMapper();

switch (command) {
  case "serve":
    for (const request of values as MappingRequest[]) {
      serve(request.protocol, request.internal);
      print(await mapper.map(request));
    }
    break;
  case "renew":
    for (const grant of values as MappingGrant[]) print(await mapper.renew(grant));
    break;
  case "release":
    for (const grant of values as MappingGrant[]) await mapper.release(grant);
    break;
  case "check":
    for (const grant of values as MappingGrant[]) print(await mapper.checkPinhole(grant));
    break;
  case "probe":
    print(await mapper.probe());
    break;
  case "list":
    print(await mapper.listMappings());
    break;
  case "time":
    print(await time(values[0] as MappingRequest, values[1] as number));
    break;
  case "load":
    print(await load(values[0] as MappingRequest, values[1] as number, values[2] as number));
    break;
}

function newMapper() {
  return igdMapper(gateway, { network: systemNetwork });
}

async function serve(protocol: "tcp" | "udp", { ip, port }: TransportAddress): Promise<void> {
  if (protocol === "tcp") {
    for await (const connection of Deno.listen({ hostname: ip, port })) {
      connection.readable.pipeTo(connection.writable).catch(() => {}); // the peer may leave at any time
    }
  } else {
    const socket = await systemNetwork.bindUdp({ ip, port });
    while (true) {
      const { data, from } = await socket.receive();
      await socket.send(data, from);
    }
  }
}

async function time(request: MappingRequest, count: number): Promise<number[]> {
  const elapsedMs: number[] = [];
  for (let index = 0; index < count; index++) {
    const mapper = newMapper();
    const startMs = performance.now();
    const grant = await mapper.map(request);
    elapsedMs.push(performance.now() - startMs);
    await mapper.release(grant);
  }
  return elapsedMs;
}

async function load(request: MappingRequest, count: number, callers: number) {
  const startMs = performance.now();
  const { ip, port } = request.internal;
  const rest = Array.from({ length: count }, (_, index) => port + index);
  const grants: MappingGrant[] = [];
  await Promise.all(Array.from({ length: callers }, async () => {
    for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
      grants.push(await mapper.map({ ...request, internal: { ip, port: next } }));
    }
  }));
  const { length: standing } = await mapper.listMappings();
  await Promise.all(grants.map((grant) => mapper.release(grant)));
  const { length: left } = await mapper.listMappings();
  return { granted: grants.length, standing, left, elapsedMs: performance.now() - startMs };
}

function print(result: unknown): void {
  // deno-lint-ignore no-console -- a program
  console.log(JSON.stringify(result));
}

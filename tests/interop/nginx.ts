/**
 * Debian's nginx with the site of `deploy/nginx.conf`, on loopback and free ports.
 *
 * @module
 */

import { systemNetwork } from "../../lib/net/system.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import { tlsFixture } from "../net/tls_fixtures.ts";
import { freePorts } from "./free_ports.ts";

/** The required program and its Debian package, for `toolTest()`. */
export const NGINX = { nginx: "nginx-light" };

/** Where nginx dials the server from. */
export const PROXY_IP = "127.0.0.9";

/** An nginx that runs until it is disposed. */
export interface Nginx extends AsyncDisposable {
  /** HTTPS. */
  readonly port: number;
}

/**
 * Starts nginx in front of a server, and waits until it accepts connections.
 *
 * @param upstreamPort the port of the rendezvous on 127.0.0.1
 * @param idle replaces the timeouts of the site, such as `2s`
 * @throws {Error} if it ends before that, with what it wrote
 */
export async function startNginx(upstreamPort: number, idle?: string): Promise<Nginx> {
  const directory = await Deno.makeTempDir({ prefix: "nginx-" });
  const [port] = freePorts(1) as [number];
  const site = await Deno.readTextFile(new URL("../../deploy/nginx.conf", import.meta.url));
  const changes: [RegExp, string][] = [
    [/listen 443 ssl;/, `listen 127.0.0.1:${port} ssl;`],
    [/ *listen \[::\]:443 ssl;\n/, ""],
    [/server_name .*;/, "server_name localhost;"],
    [/ssl_certificate .*;/, `ssl_certificate ${tlsFixture("server.pem")};`],
    [/ssl_certificate_key .*;/, `ssl_certificate_key ${tlsFixture("server.key")};`],
    [/127\.0\.0\.1:3480;/, `127.0.0.1:${upstreamPort};\n        proxy_bind ${PROXY_IP};`],
    ...idle === undefined
      ? []
      : [[/proxy_read_timeout 120s;/, `proxy_read_timeout ${idle};`] as [RegExp, string]],
  ];
  let changed = site;
  for (const [from, to] of changes) {
    if (!from.test(changed)) throw new Error(`Cannot use deploy/nginx.conf: ${from} is not in it`);
    changed = changed.replace(from, to);
  }
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`).join("\n");
  await Deno.writeTextFile(
    `${directory}/nginx.conf`,
    `user root;\nworker_processes 1;\npid ${directory}/pid;\nerror_log stderr;\n` +
      `events { worker_connections 512; }\nhttp {\n${temporary}\n${changed}\n}\n`,
  );
  const child = new Deno.Command("nginx", {
    args: ["-p", directory, "-c", `${directory}/nginx.conf`, "-g", "daemon off;"],
    env: { PATH: `${Deno.env.get("PATH") ?? ""}:/usr/sbin` },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const output = new Response(child.stderr).text();
  let hasEnded = false;
  child.status.then(() => hasEnded = true);
  while (!await isAccepting(port)) {
    if (hasEnded) throw new Error(`Cannot start nginx: it wrote\n${await output}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await Promise.all([child.status, output]);
      await Deno.remove(directory, { recursive: true });
    },
  };
}

async function isAccepting(port: number): Promise<boolean> {
  try {
    (await systemNetwork.connectTcp({ ip: "127.0.0.1", port })).close();
    return true;
  } catch (error) {
    if (error instanceof NetworkError) return false;
    throw error;
  }
}

/**
 * The STUN servers that NAT tests run with: this library's, coturn (RFC 5780) and vovida's (RFC 3489).
 *
 * @module
 */

import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";

/** The name of a server. */
export type ServerName = keyof typeof STUN_SERVERS;

/** How to start each server in a host with two addresses. */
export const STUN_SERVERS = {
  punchline: (host: LabHost) => {
    const cli = new URL("../../../cli.ts", import.meta.url);
    const [address, alternate] = host.ips as [string, string];
    const args = ["serve", "--address", address, "--alternate", alternate, "--json"];
    return host.serve(Deno.execPath(), denoArgs(cli, args), { ready: /listening/ });
  },
  coturn: (host: LabHost) => {
    const listeners = host.ips.flatMap((ip) => ["-L", ip]);
    const args = [
      "-n",
      "-S",
      "-z",
      "--no-cli",
      "--no-tls",
      "--no-dtls",
      "--log-file",
      "stdout",
      ...listeners,
    ];
    return host.serve(
      "turnserver",
      args,
      {
        ready: /Total General servers/,
        stderr: "null", // warnings about protocols that the kernel lacks
      },
    );
  },
  vovida: async (host: LabHost) => {
    const [address, alternate] = host.ips as [string, string];
    host.spawn("stund", ["-h", address, "-a", alternate, "-p", "3478", "-o", "3479"], {
      stdin: "null",
      stdout: "null",
      stderr: "null",
    });
    await new Promise((resolve) => setTimeout(resolve, 300)); // it does not report when it is ready
  },
} as const;

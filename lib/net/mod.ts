/**
 * The network that the library uses: sockets, names and addresses behind one interface. Everything that opens sockets
 * takes `options.network`, and {@linkcode systemNetwork} is the default.
 *
 * ```ts
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { assertEquals } from "@std/assert";
 *
 * using socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
 * await socket.send(Uint8Array.of(1, 2, 3), socket.local);
 * const { data } = await socket.receive();
 * assertEquals(data, Uint8Array.of(1, 2, 3));
 * ```
 *
 * @module
 */

export {
  NetworkError,
  type NetworkErrorReason,
  PunchlineError,
  type PunchlineErrorOptions,
} from "../base/errors.ts";
export type { Logger } from "../base/logger.ts";
export {
  formatTransportAddress,
  type IpFamily,
  parseTransportAddress,
  type TransportAddress,
} from "./address.ts";
export type * from "./network.ts";
export { type Proxy, type ProxyOptions, throughProxy } from "./proxy/client.ts";
export { systemNetwork } from "./system.ts";
export {
  type CertificateFiles,
  type FileTlsAcceptor,
  openTlsAcceptor,
} from "./system/tls_server.ts";

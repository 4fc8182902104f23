/**
 * Ports for servers that cannot choose one themselves.
 *
 * @module
 */

/** Ports that are free for UDP and TCP at this moment. */
export function freePorts(count: number): number[] {
  using stack = new DisposableStack();
  return Array.from({ length: count }, () => {
    const listener = stack.use(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
    const { port } = listener.addr as Deno.NetAddr;
    const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port });
    stack.defer(() => socket.close());
    return port;
  });
}

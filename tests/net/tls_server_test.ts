import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { openTlsAcceptor } from "../../lib/net/system/tls_server.ts";
import { tlsFixture, tlsPair, withListener } from "./tls_fixtures.ts";

const SERVER = { cert: tlsFixture("server.pem"), key: tlsFixture("server.key") };
const SCRATCH = new URL("../transfer/scratch", import.meta.url).pathname;

Deno.test("a TLS connection carries bytes both ways, and the end of each direction", async () => {
  using acceptor = await openTlsAcceptor(SERVER);
  assertEquals(acceptor.hostname, "localhost");
  await withListener(async (place) => {
    const [server, client] = await tlsPair(acceptor, place);
    using _both = stackOf(server, client);
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const [echo] = await Promise.all([
      readToEnd(client),
      (async () => {
        await writeAll(client, sent);
        await client.closeWrite();
      })(),
      (async () => {
        await writeAll(server, await readToEnd(server));
        await server.closeWrite();
      })(),
    ]);
    assertEquals(echo, sent);
  });
});

Deno.test("bytes that are no handshake end it, as does a client that leaves", async () => {
  using acceptor = await openTlsAcceptor(SERVER);
  await withListener(async ({ accept, dial }) => {
    for (const first of [[0x16, 3, 1, 0, 2, 9, 9], [0x16, 0xff, 0xff, 0xff, 0xff], [0x50]]) {
      using client = await dial();
      const raw = await accept();
      const accepted = acceptor.accept(raw, 5000);
      await client.write(new Uint8Array([...first, ...new Array(200).fill(first[0])]));
      await client.closeWrite();
      const error = await assertRejects(() => accepted, NetworkError);
      assertEquals(error.reason, "tls");
    }
    const client = await dial();
    const accepted = acceptor.accept(await accept(), 5000);
    client.reset();
    await assertRejects(() => accepted, NetworkError);
  });
});

Deno.test("a handshake that stops halfway is ended in time, and its connection reset", async () => {
  using acceptor = await openTlsAcceptor(SERVER);
  await withListener(async ({ accept, dial }) => {
    using client = await dial();
    await client.write(new Uint8Array([0x16, 3, 1, 1, 0]));
    const raw = await accept();
    const error = await assertRejects(() => acceptor.accept(raw, 20), NetworkError);
    assertEquals(error.reason, "timed-out");
    await assertRejects(() => client.read(new Uint8Array(9)), NetworkError, "reset");
  });
});

Deno.test("a handshake that sends too much is ended", async () => {
  using acceptor = await openTlsAcceptor(SERVER);
  await withListener(async ({ accept, dial }) => {
    using client = await dial();
    const accepted = accept().then((raw) => acceptor.accept(raw, 5000));
    // Records of 2 KiB that promise a ClientHello of 16 MiB.
    const record = new Uint8Array(5 + 2048);
    record.set([0x16, 3, 1, 8, 0, 1, 0xff, 0xff, 0xff]);
    const send = async () => {
      for (let i = 0; i < 20; i++) await writeAll(client, record);
    };
    const [error] = await Promise.all([
      assertRejects(() => accepted, NetworkError),
      send().catch((error) => assert(error instanceof NetworkError)),
    ]);
    assertEquals(error.reason, "tls");
  });
});

Deno.test("a certificate that cannot be used is refused with the reason", async () => {
  const missing = tlsFixture("missing.pem");
  for (
    const [cert, key, message] of [
      [missing, "server.key", "there is no such file"],
      [SERVER.cert, "renewed.key", "belongs to another one"],
      ["expired.pem", "server.key", "it expired on Feb  1"],
      [SERVER.cert, "server.pem", "it is not one in PEM"],
      ["server.key", "server.key", "it is not one in PEM"],
    ] as const
  ) {
    const files = { cert: pathOf(cert), key: pathOf(key) };
    await assertRejects(() => openTlsAcceptor(files), TypeError, message);
  }
});

Deno.test("a certificate is read again when it changes, and one that cannot be used is not", async () => {
  await Deno.mkdir(SCRATCH, { recursive: true });
  const dir = await Deno.makeTempDir({ dir: SCRATCH });
  try {
    const files = { cert: `${dir}/cert`, key: `${dir}/key` };
    const put = async (cert: string, key: string, at: number) => {
      for (const [from, to] of [[cert, files.cert], [key, files.key]] as const) {
        await Deno.copyFile(tlsFixture(from), to);
        await Deno.utime(to, at, at);
      }
    };
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    await put("server.pem", "server.key", 1);
    using acceptor = await openTlsAcceptor({
      ...files,
      logger: { debug: log, info: log, warn: log },
    });
    await acceptor.reload();
    assertEquals(lines, []);
    const before = acceptor.expiresMs;

    await put("server.pem", "renewed.key", 2); // as between two steps of a renewal
    await acceptor.reload();
    await acceptor.reload();
    assertEquals(lines.length, 1, "one warning");
    assert(lines[0]!.endsWith("the certificate before it stays in use"));
    await withListener(async (place) => stackOf(...await tlsPair(acceptor, place)).dispose());

    await put("renewed.pem", "renewed.key", 3);
    await acceptor.reload();
    assert(lines[1]!.includes("is in use"));
    assertEquals([acceptor.hostname, acceptor.expiresMs > before], ["renewed.test", true]);
    await withListener(async (place) => stackOf(...await tlsPair(acceptor, place)).dispose());
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

function pathOf(name: string): string {
  return name.startsWith("/") ? name : tlsFixture(name);
}

function stackOf(...all: Disposable[]): DisposableStack {
  const stack = new DisposableStack();
  for (const each of all) stack.use(each);
  return stack;
}

async function readToEnd(connection: { read(buffer: Uint8Array): Promise<number | null> }) {
  const parts: number[] = [];
  const buffer = new Uint8Array(5000);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return new Uint8Array(parts);
    parts.push(...buffer.subarray(0, length));
  }
}

// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * The two ends of a Unix socket, as a process: the permissions of the tests have none.
 *
 *     deno run -A tests/cli/unix_program.ts serve PATH TEXT    answers each connection with what it got, and the text
 *     deno run -A tests/cli/unix_program.ts ask PATH TEXT      sends the text, and prints the answer
 *
 * @module
 */

const [mode, path, text] = Deno.args as [string, string, string];

if (mode === "serve") {
  const listener = Deno.listen({ transport: "unix", path });
  console.error("serves");
  for await (const conn of listener) {
    const asked = new Uint8Array(100);
    const length = await conn.read(asked) ?? 0;
    await conn.write(asked.subarray(0, length));
    await conn.write(new TextEncoder().encode(text));
    conn.close();
  }
} else {
  using conn = await Deno.connect({ transport: "unix", path });
  await conn.write(new TextEncoder().encode(text));
  await conn.closeWrite();
  console.log(await new Response(conn.readable).text());
}

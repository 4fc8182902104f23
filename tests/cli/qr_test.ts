import { assert, assertEquals } from "@std/assert";
import { drawQr, showQr } from "../../lib/cli/qr.ts";
import { withScreen } from "../../lib/cli/screen.ts";
import { encodeTicket, ticketForQr } from "../../lib/peer/ticket.ts";
import { DEFAULT_SIGNALING } from "../../lib/signal/open.ts";
import { noTerminal } from "./no_terminal.ts";

const MODULES = [[true, false, true], [true, true, false], [false, true, true]];

Deno.test("drawQr() draws two modules with each character, black on white", () => {
  const lines = drawQr(MODULES, 1, { hasStyles: true });
  // deno-lint-ignore no-control-regex
  const plain = lines.map((line) => line.replaceAll(/\u001b\[[\d;]*m/g, ""));
  assertEquals(plain, [" ▄ ▄ ", " ▀█▄ ", "     "]);
});

Deno.test("drawQr() draws the light modules where there are no colours", () => {
  assertEquals(drawQr(MODULES, 1, { hasStyles: false }), ["█▀█▀█", "█▄ ▀█", "▀▀▀▀▀"]);
});

for (
  const [what, signaling] of [
    ["the usual ways to meet", DEFAULT_SIGNALING],
    ["a rendezvous", ["ws://192.0.2.1:3480"]],
    ["a rendezvous with a name and the LAN", ["wss://rendezvous.example.org:443", "lan:"]],
  ] as const
) {
  Deno.test(`the QR code of a ticket for ${what} fits beside its text on 24 rows`, async () => {
    const ticket = encodeTicket({
      publicKey: crypto.getRandomValues(new Uint8Array(32)),
      secret: crypto.getRandomValues(new Uint8Array(16)),
      signaling,
    });
    const written = await shown(ticketForQr(ticket), { columns: 80, rows: 24 });
    const text = `On the other machine:\n  punchline connect ${ticket}`;
    const textRows = text.split("\n").flatMap((line) => line.match(/.{1,80}/g)!).length;
    const codeRows = written.split("\n").length - 1;
    const statusRows = 1;
    assert(codeRows > 15, written);
    assert(textRows + codeRows + statusRows <= 24, `${textRows} + ${codeRows}`);
  });
}

Deno.test("the QR code of the usual ticket fits into 40 columns", async () => {
  const ticket = encodeTicket({
    publicKey: new Uint8Array(32),
    secret: new Uint8Array(16),
    signaling: DEFAULT_SIGNALING,
  });
  const written = await shown(ticketForQr(ticket), { columns: 40, rows: 24 });
  for (const line of written.split("\n")) assert(line.length <= 40, `${line.length}`);
});

Deno.test("showQr() says how large the terminal has to be", async () => {
  const text = `punchline-hand:${"x".repeat(270)}`;
  assertEquals(
    await shown(text, { columns: 80, rows: 24 }),
    "The QR code needs a terminal of 63 columns and 33 rows\n",
  );
  const written = await shown(text, { columns: 80, rows: 40 });
  assert(written.split("\n").length > 30);
});

async function shown(text: string, size: { columns: number; rows: number }): Promise<string> {
  let written = "";
  const write = (text: string) => written += text;
  const print = (line: string) => write(`${line}\n`);
  const { signal } = new AbortController();
  const status = { ...size, write };
  using io = withScreen({ ...noTerminal(), out: print, err: print, status, signal }, {
    asJson: false,
  });
  await showQr(text, io);
  return written;
}

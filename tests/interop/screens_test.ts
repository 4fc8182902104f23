/**
 * What each command looks like on a real terminal of 40, 80 and 120 columns, compared with the texts in `tests/screens`:
 *
 *     deno test -A tests/interop/screens_test.ts             # compares
 *     deno test -A tests/interop/screens_test.ts -- --update # writes them
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { WITHOUT_SETTINGS } from "../../lab/kernel/lab_host.ts";
import { toBase64url } from "../../lib/base/bytes.ts";
import { textWidth } from "../../lib/cli/layout.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { Tmux } from "../screens/tmux.ts";
import { toolTest } from "./tool_test_case.ts";

const WIDTHS = [40, 80, 120] as const;
const ROWS = 50;

const ROOT = new URL("../../", import.meta.url).pathname;
const FOLDER = new URL("../screens/", import.meta.url);

/** By the name of the text: what runs, and what shows that it is ready. */
const SCREENS: Readonly<Record<string, Shown>> = {
  ...fixed("nat-test", "nat-test-ipv6", "map-list", "map-probe", "map-add", "connected"),
  ...fixed("attempts", "not-found", "recv-end"),
  ...long("doctor", "doctor-with", "doctor-cut-off"),
  "nat-test-watch": { runs: scene("nat-test-watch"), until: /works again[^]*Watching/ },
  "looking": { runs: scene("looking"), until: /\b3 s\b/ },
  "send-progress": { runs: scene("send"), until: /MiB of/ },
  "recv-ask": { runs: scene("recv-ask"), until: /\[y\/N\]/ },
  "help": ends(cli("--help")),
  "help-send": ends(cli("send --help")),
  "help-map": ends(cli("map --help")),
  "help-doctor": { ...ends(cli("doctor --help")), rows: 100 },
  "error-usage": ends(cli("send --nonsense file")),
  "error-command": ends(cli("conect")),
  "stun": { ...ends(`${cli("stun 127.0.0.1:23811")}`), needs: "serve" },
  "stun-silent": { runs: cli("stun 127.0.0.1:23819"), until: /Asking/ },
  "serve": {
    runs: cli("serve --port 23821 --alternate-port 23822 --rendezvous-port 23823"),
    until: /Ctrl-C/,
  },
  "listen": { runs: peer("listen"), until: /Waiting for a peer/, needs: "serve" },
  "listen-qr": { runs: peer("listen --qr"), until: /█[^]*Waiting for a peer/, needs: "serve" },
  "listen-hand": {
    runs: cli("listen --hand --key $KEY --server 127.0.0.1:23811"),
    until: /Waiting for a peer/,
    needs: "serve",
  },
  "send": { runs: peer("send $FILE"), until: /Waiting for the receiver/, needs: "serve" },
  "connect-dead": {
    runs: cli(
      "connect $DEAD_TICKET --rendezvous ws://127.0.0.1:23813 --server 127.0.0.1:23811 --timeout 20s",
    ),
    until: /Looking for the peer, [1-9] s/,
    needs: "serve",
  },
  "connect-not-found": {
    ...ends(
      cli(
        "connect $DEAD_TICKET --rendezvous ws://127.0.0.1:23813 --server 127.0.0.1:23811 --timeout 300ms",
      ),
    ),
    needs: "serve",
  },
  "connect-no-server": ends(
    cli("connect $NOWHERE_TICKET --rendezvous ws://127.0.0.1:9 --server 127.0.0.1:9"),
  ),
  "punch": {
    runs: cli("punch quiet-room --rendezvous ws://127.0.0.1:23813 --server 127.0.0.1:23811"),
    until: /Waiting for the other side/,
    needs: "serve",
  },
  "ticket-list": ends(cli("ticket list --key $KEY")),
  "id": ends(cli("id --key $KEY")),
};

/** What runs in the terminal. */
interface Shown {
  readonly runs: string;
  readonly until: RegExp;
  /** The height of the terminal. Default: 50. */
  readonly rows?: number;
  /** `serve` runs on 127.0.0.1:23811, its rendezvous on port 23813. */
  readonly needs?: "serve";
}

const TMUX = { tmux: "tmux" };

toolTest(
  "each command looks as kept, on terminals of 40, 80 and 120 columns",
  TMUX,
  async (test) => {
    await using place = await Place.open();
    for (const [name, shown] of Object.entries(SCREENS)) {
      for (const columns of WIDTHS) {
        await test.step(`${name} at ${columns} columns`, async () => {
          const lines = await place.show(shown, columns);
          for (const line of lines) assert(textWidth(line) <= columns, line);
          await compare(`${name}.${columns}.txt`, lines);
        });
      }
    }
  },
);

toolTest("the QR code of a ticket fits beside its text on 24 rows", TMUX, async () => {
  await using place = await Place.open();
  const pane = await place.open(peer("listen --qr"), { columns: 80, rows: 24 });
  await pane.shows(/█[^]*Waiting for a peer/);
  const screen = await pane.screen();
  assert(screen[0]!.startsWith("On the other machine:"), screen.join("\n"));
  assert(screen.at(-1)!.startsWith("Waiting for a peer"), screen.join("\n"));
});

toolTest(
  "a ticket is whole on its line at any width, and so it stays while the terminal is resized",
  TMUX,
  async () => {
    await using place = await Place.open();
    const ticket = (await place.ticket()).trim();
    const pane = await place.open(peer("listen"), { columns: 120, rows: 24 });
    await pane.shows(/Waiting for a peer/);
    for (const columns of [60, 40, 200, 47, 80]) {
      await pane.resize(columns, 24);
      await pane.shows(/Waiting for a peer.*ok/);
      await new Promise((resolve) => setTimeout(resolve, 1200)); // the line is redrawn every second
      const lines = await pane.wholeLines();
      const command = ` connect ${ticket}`;
      assert(lines.some((line) => line.endsWith(command)), lines.join("\n"));
      const waiting = lines.filter((line) => line.includes("Waiting for"));
      assertEquals(waiting.length, 1, lines.join("\n"));
    }
  },
);

/** A folder, a `serve`, and terminals. */
class Place implements AsyncDisposable {
  readonly #tmux = Tmux.start();
  /** A server that does not answer. */
  readonly #silent = Deno.listenDatagram({
    ...{ transport: "udp", hostname: "127.0.0.1", port: 23819 },
  });
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(): Promise<Place> {
    const place = new Place(await Deno.makeTempDir({ prefix: "punchline-screens-" }));
    try {
      await Deno.writeTextFile(place.#path("key"), toBase64url(BYTES), { mode: 0o600 });
      await Deno.writeTextFile(place.#path("notes.txt"), "some notes\n");
      const serve = await place.open(
        cli("serve --port 23811 --alternate-port 23812 --rendezvous-port 23813"),
        { columns: 80, rows: 24 },
      );
      await serve.shows(/Try it/);
      return place;
    } catch (error) {
      await place[Symbol.asyncDispose](); // its terminals would go on
      throw error;
    }
  }

  /** The ticket of the key. */
  async ticket(): Promise<string> {
    const pane = await this.open(peer("listen"), { columns: 200, rows: 24 });
    await pane.shows(/Waiting for a peer/);
    const [ticket] = /punchline:[\w-]{60,}/.exec((await pane.wholeLines()).join("\n")) ?? [];
    await pane.close();
    return ticket!;
  }

  open(command: string, size: { columns: number; rows: number }) {
    const text = command.replaceAll("$KEY", this.#path("key"))
      .replaceAll("$FILE", this.#path("notes.txt"))
      .replaceAll("$DEAD_TICKET", DEAD_TICKET).replaceAll("$NOWHERE_TICKET", NOWHERE_TICKET);
    const settings = `export XDG_CONFIG_HOME=${WITHOUT_SETTINGS.XDG_CONFIG_HOME}`;
    return this.#tmux.open(`cd ${ROOT}; ${settings}; ${text}; sleep 600`, size);
  }

  async show({ runs, until, rows = ROWS }: Shown, columns: number): Promise<string[]> {
    const pane = await this.open(runs, { columns, rows });
    const lines = await pane.shows(until);
    await pane.close();
    return lines.map(normalized).filter((line) => line !== "[end]");
  }

  #path(name: string): string {
    return `${this.#folder}/${name}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#silent.close();
    await this.#tmux[Symbol.asyncDispose]();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

async function compare(name: string, lines: readonly string[]): Promise<void> {
  const file = new URL(name, FOLDER);
  const text = `${lines.join("\n")}\n`;
  if (Deno.args.includes("--update")) return await Deno.writeTextFile(file, text);
  assertEquals(text, await Deno.readTextFile(file), `${name} differs; see --update`);
}

/** Without what differs from run to run; the width stays. */
function normalized(line: string): string {
  return line.replaceAll(/\b\d+\.\d ms/g, "#.# ms").replaceAll(/, \d+ s\b/g, ", # s")
    .replaceAll(/(127\.0\.0\.1:)(?!238)\d{5}\b/g, "$1#####");
}

function scene(name: string): string {
  return `deno run --quiet -A --config deno.json tests/screens/scene.ts ${name}`;
}

function cli(args: string): string {
  return `deno run --quiet --no-prompt -A --config deno.json cli.ts ${args}`;
}

/** Without a code, whose words differ from run to run. */
function peer(args: string): string {
  return cli(
    `${args} --no-code --key $KEY --rendezvous ws://127.0.0.1:23813 --server 127.0.0.1:23811`,
  );
}

function ends(command: string): Shown {
  return { runs: `${command}; echo; echo "[end]"`, until: /\[end\]/ };
}

function fixed(...names: readonly string[]): Record<string, Shown> {
  return Object.fromEntries(names.map((name) => [name, ends(scene(name))]));
}

/** Those that need more than a screen of the usual height. */
function long(...names: readonly string[]): Record<string, Shown> {
  return Object.fromEntries(names.map((name) => [name, { ...ends(scene(name)), rows: 150 }]));
}

function ticketFor(url: string): string {
  return encodeTicket({ publicKey: BYTES, secret: BYTES.slice(16), signaling: [url] });
}

const BYTES = Uint8Array.from({ length: 32 }, (_, index) => index + 1);

/** Of a peer that is not there, and of one whose server is not there. */
const DEAD_TICKET = ticketFor("ws://127.0.0.1:23813");
const NOWHERE_TICKET = ticketFor("ws://127.0.0.1:9");

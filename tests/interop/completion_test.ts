/**
 * Completion by Tab in real shells, on a real terminal.
 *
 * @module
 */

import { encodeTicket } from "../../lib/peer/ticket.ts";
import { Terminal } from "./tmux.ts";
import { toolTest } from "./tool_test_case.ts";

/** How to start each shell without anyone's configuration, and what loads the script. */
const SHELLS: Readonly<Record<string, { readonly start: string; readonly load: string }>> = {
  bash: { start: "bash --norc --noprofile", load: "source <(punchline completion bash)" },
  zsh: {
    start: "zsh --no-rcs",
    load: "autoload -U compinit; compinit -u; source <(punchline completion zsh)",
  },
  fish: { start: "fish --no-config --private", load: "punchline completion fish | source" },
};

/** What is typed before Tab, and what the line has become after it. */
const TYPED: readonly (readonly [string, string])[] = [
  ["punchline lis", "punchline listen "],
  ["punchline map pro", "punchline map probe "],
  ["punchline listen --time", "punchline listen --timeout "],
  ["punchline listen --timeout 5s --relay-o", "punchline listen --timeout 5s --relay-only "],
  ["punchline map add --protocol nat", "punchline map add --protocol nat-pmp "],
  ["punchline map add ud", "punchline map add udp "],
  ["punchline send hel", "punchline send hello.txt "],
  ["punchline recv --to inb", "punchline recv --to inbox/"],
  ["punchline recv 7-walr", "punchline recv 7-walrus-"],
  ["punchline recv 7-abacus-walrus-zodi", "punchline recv 7-abacus-walrus-zodiac "],
  ["punchline help ticket rev", "punchline help ticket revoke "],
  ["punchline connect lap", "punchline connect laptop "],
  ["punchline peers remove lap", "punchline peers remove laptop "],
];

for (const [shell, { start, load }] of Object.entries(SHELLS)) {
  toolTest(`Tab completes commands, options, values and files in ${shell}`, {
    tmux: "tmux",
    [shell]: shell,
  }, async () => {
    const folder = await Deno.makeTempDir({ prefix: "punchline-completion-" });
    try {
      await Deno.mkdir(`${folder}/inbox`);
      await Deno.writeTextFile(`${folder}/hello.txt`, "");
      await Deno.mkdir(`${folder}/.config/punchline`, { recursive: true });
      const settings = { peers: { laptop: { ticket: TICKET, servers: [] } } };
      const file = `${folder}/.config/punchline/config.json`;
      await Deno.writeTextFile(file, JSON.stringify(settings), { mode: 0o600 });
      await Deno.writeTextFile(`${folder}/punchline`, SCRIPT, { mode: 0o755 });
      const path = `${folder}:${Deno.env.get("PATH")}`;
      const env = {
        PATH: path,
        HOME: folder,
        PS1: "READY> ",
        TERM: "screen",
        HISTFILE: "/dev/null",
      };
      await using terminal = await Terminal.open(start, { folder, env });
      await terminal.type(`${load}; echo LOAD''ED\n`);
      await terminal.shows("LOADED");
      for (const [typed, completed] of TYPED) {
        await terminal.type(`${typed}\t`);
        await terminal.shows(completed.trimEnd());
        await terminal.key("C-u"); // empties the line
        await terminal.hides(completed.trimEnd());
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

const CLI = new URL("../../punchline.ts", import.meta.url).pathname;
const FLAGS = "--allow-read --allow-env=HOME,XDG_CONFIG_HOME,APPDATA";
const TICKET = encodeTicket({
  ...{ publicKey: new Uint8Array(32), secret: new Uint8Array(16), signaling: ["lan:"] },
});
const SCRIPT =
  `#!/bin/sh\nexec '${Deno.execPath()}' run --quiet --no-prompt ${FLAGS} '${CLI}' "$@"\n`;

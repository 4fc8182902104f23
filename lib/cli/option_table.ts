/**
 * The options of all commands as data: what each is called, takes and does. Help, usage errors, the man page and
 * completion are made from it.
 *
 * @module
 */

/** One option of a command. */
export interface Option {
  /** Without the dashes. */
  readonly name: string;
  /** What it takes, such as `URL`; an option without is a flag. */
  readonly value?: string;
  /** Whether it may be given several times. */
  readonly repeats?: boolean;
  /** What it does, without a period. */
  readonly help: string;
  /** What holds without it, for people. */
  readonly fallback?: string;
  /** The values that it takes, if they are few. */
  readonly choices?: readonly string[];
  /** Whether its value names a file or a folder. */
  readonly completes?: "file" | "folder";
  /** Under which heading help lists it. */
  readonly group: OptionGroup;
}

/** The headings, in the order in which help shows them. */
const OPTION_GROUPS = [
  "Options",
  "How the two sides find each other",
  "How they connect",
  "Identity",
  "Limits",
  "Output",
] as const;

/** A heading. */
export type OptionGroup = typeof OPTION_GROUPS[number];

/** How help shows an option: `--server HOST[:PORT]`. */
function optionText({ name, value }: Option): string {
  return value === undefined ? `--${name}` : `--${name} ${value}`;
}

/** What an option does, and what holds without it. */
function optionHelp({ help, fallback, repeats }: Option): string {
  const notes = [
    ...fallback === undefined ? [] : [`default: ${fallback}`],
    ...repeats ? ["may be repeated"] : [],
  ];
  return notes.length === 0 ? help : `${help} (${notes.join("; ")})`;
}

/** How help lists options: under their headings, each with what it does. */
export function optionRows(
  options: readonly Option[],
): { readonly group: OptionGroup; readonly rows: readonly (readonly [string, string])[] }[] {
  return OPTION_GROUPS.flatMap((group) => {
    const rows = options.filter((each) => each.group === group)
      .map((each) => [optionText(each), optionHelp(each)] as const);
    return rows.length === 0 ? [] : [{ group, rows }];
  });
}

/** What times look like. */
export function unitsText(values: readonly string[]): string {
  const named = [DURATION, SECONDS].filter((each) => values.includes(each)).join(" and ");
  const bare = values.includes(SECONDS) ? `; a bare number for ${SECONDS} is seconds` : "";
  return `${named}: 500ms, 5s, 2m, 1h or 7d${bare}.`;
}

/** An option of a command's own. */
export function option(name: string, rest: Omit<Option, "name" | "group">): Option {
  return { name, group: "Options", ...rest };
}

/** Waits no longer than this. */
export function timeoutOption(help: string, fallback: string): Option {
  return option("timeout", { value: DURATION, help, fallback });
}

/** A time, such as `5s`; help says once what it may look like. */
export const DURATION = "DURATION";

/** A time whose bare number is seconds. */
export const SECONDS = "SECONDS";

/** For programs. */
export const JSON_OPTION: Option = {
  name: "json",
  group: "Output",
  help: "print results and events as JSON, for programs",
};

/** For those who want to see more. */
export const VERBOSE_OPTION: Option = {
  name: "verbose",
  group: "Output",
  help: "print a line for each forwarded connection",
};

/** Shows the ticket on the screen of another device's camera. */
export const QR_OPTION: Option = {
  name: "qr",
  group: "Output",
  help: "show the ticket, and with --hand the text for the other side, as a QR code too",
};

/** The same for what people copy. */
export const MESSAGE_QR_OPTION: Option = {
  ...QR_OPTION,
  help: "with --hand, show the text for the other side as a QR code too",
};

/** The code that is shown beside the ticket, and what there is without one. */
export function codeOptions(without = "show no code, only the ticket"): readonly Option[] {
  return [
    option("no-code", { help: without }),
    option("code-expires", {
      value: DURATION,
      help: "how long the code is good for, such as 10m or 1d",
      fallback: "1h",
    }),
  ];
}

/** Whom to let in. */
export const ALLOW_OPTION: Option = {
  name: "allow",
  value: "ID",
  repeats: true,
  group: "Identity",
  help: "accept only peers with this ID, as `punchline id` prints it",
  fallback: "everyone with the ticket",
};

/** The identity of this peer. */
export const KEY_OPTION: Option = {
  name: "key",
  value: "FILE",
  group: "Identity",
  completes: "file",
  help: "the file with this peer's secret key, created if missing: keeps the same ID and ticket",
};

/** Where two sides exchange messages before they are connected. */
export const MEETING_OPTIONS: readonly Option[] = [
  {
    name: "rendezvous",
    value: "URL",
    repeats: true,
    group: "How the two sides find each other",
    help: "exchange messages through this server, such as ws://192.0.2.1:3480; a ticket may then " +
      "name it too; also as @FILE, - (stdin) or $PUNCHLINE_RENDEZVOUS",
    fallback: "the local network and public MQTT brokers",
  },
  {
    name: "mqtt",
    value: "URL",
    repeats: true,
    group: "How the two sides find each other",
    help: "exchange messages through this MQTT broker, such as mqtts://USER:PASSWORD@HOST; a " +
      "ticket may then name it too; also as @FILE, - (stdin) or $PUNCHLINE_MQTT",
  },
  {
    name: "lan",
    group: "How the two sides find each other",
    help: "exchange messages on the local network, by multicast",
  },
];

/** What carries signaling and relays. */
export const PROXY_OPTION: Option = {
  name: "proxy",
  value: "URL",
  group: "How they connect",
  help: "reach signaling servers and relays through this HTTP or SOCKS5 proxy, such as " +
    "http://USER:PASSWORD@HOST:PORT; direct attempts go around it, unless --relay-only rules them " +
    "out; also @FILE, - (stdin), $HTTPS_PROXY and $ALL_PROXY, or `proxy` in the settings, but for " +
    "the hosts of $NO_PROXY",
};

/** What all commands with a peer share. */
export const PEER_OPTIONS: readonly Option[] = [
  ...MEETING_OPTIONS,
  {
    name: "hand",
    group: "How the two sides find each other",
    help: "copy and paste the messages yourself, over a chat or by mail",
  },
  {
    name: "server",
    value: "HOST[:PORT]",
    repeats: true,
    group: "How they connect",
    help: "use this STUN server",
    fallback: "public ones",
  },
  {
    name: "turn",
    value: "URL",
    repeats: true,
    group: "How they connect",
    help:
      "a relay for when nothing else works: turn:USER:PASSWORD@HOST; also as @FILE, - (stdin) or " +
      "$PUNCHLINE_TURN",
  },
  PROXY_OPTION,
  {
    name: "strategy",
    value: "LIST",
    group: "How they connect",
    help: "what to try, such as lan,punch,relay",
    fallback: "everything",
  },
  {
    name: "relay-only",
    group: "How they connect",
    help:
      "connect only through the relays of --rendezvous and --turn, to hide your address from the peer",
  },
  KEY_OPTION,
  JSON_OPTION,
];

/** For commands without a peer. */
export const STUN_SERVER_OPTION = option("server", {
  value: "HOST[:PORT]",
  repeats: true,
  help: "use this STUN server",
  fallback: "public ones",
});

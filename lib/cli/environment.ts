/**
 * The variables of the environment that the command line reads: each only where that is permitted, and only in place of
 * an option that is not given.
 *
 * @module
 */

/** A variable, and what it stands for. */
export interface Variable {
  readonly name: string;
  /** What it does, without a period. */
  readonly help: string;
  /** Whether it is another one in lower case, as some programs write it. */
  readonly isOtherCase?: boolean;
  /** Whether only programs set it that start this one. */
  readonly isForLaunchers?: boolean;
}

/** The variables that stand for options which are not given, by option. */
export const URL_VARIABLES = {
  rendezvous: "PUNCHLINE_RENDEZVOUS",
  mqtt: "PUNCHLINE_MQTT",
  turn: "PUNCHLINE_TURN",
} as const;

/** All of them. The installed command may read these and no others. */
export const VARIABLES: readonly Variable[] = [
  { name: "PUNCHLINE_TICKET", help: "the ticket, for connect and recv" },
  { name: URL_VARIABLES.rendezvous, help: "the URLs of --rendezvous, separated by spaces" },
  { name: URL_VARIABLES.mqtt, help: "the URLs of --mqtt, separated by spaces" },
  { name: URL_VARIABLES.turn, help: "the URLs of --turn, separated by spaces" },
  {
    name: "HTTPS_PROXY",
    help: "the URL of --proxy, as other programs read it; https_proxy too",
  },
  { name: "https_proxy", help: "see HTTPS_PROXY", isOtherCase: true },
  { name: "ALL_PROXY", help: "the same, if HTTPS_PROXY is not set; all_proxy too" },
  { name: "all_proxy", help: "see ALL_PROXY", isOtherCase: true },
  {
    name: "NO_PROXY",
    help: "hosts that are reached without the proxy: names, which stand for their subdomains " +
      "too, addresses, prefixes such as 10.0.0.0/8, or * for all; no_proxy too",
  },
  { name: "no_proxy", help: "see NO_PROXY", isOtherCase: true },
  { name: "HOME", help: "the user's folder, with the settings below .config" },
  { name: "XDG_CONFIG_HOME", help: "the folder of settings, in place of .config" },
  { name: "APPDATA", help: "the same on Windows" },
  { name: "TERM", help: "`dumb` for a terminal on which nothing can be redrawn" },
  {
    name: "PUNCHLINE_STARTED_AS",
    help: "how messages name this program; set by what starts it, such as npx",
    isForLaunchers: true,
  },
];

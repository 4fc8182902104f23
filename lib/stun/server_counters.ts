/**
 * What a STUN server counts.
 *
 * @module
 */

/** Events since the server was started. */
export interface StunServerCounters {
  /** Answers sent over UDP, refusals among them. */
  udpAnswers: number;
  /** Datagrams that were no Binding request, or that answering would have amplified. */
  udpIgnored: number;
  /** Answers that lost attributes to be no longer than the request. */
  udpShortened: number;
  /** Requests that were refused because their source asked for too many special answers. */
  udpLimited: number;
  /** Answers that the system would not send. */
  udpSendFailures: number;
  /** Connections that were accepted. */
  tcpConnections: number;
  /** Connections that were reset at once: too many of them, or too many from one source. */
  tcpRefused: number;
  /** Connections that were closed because no whole message came in time. */
  tcpIdle: number;
  /** Answers sent over TCP, refusals among them. */
  tcpAnswers: number;
  /** TCP filter tests that were run. */
  filterTests: number;
  /** TCP filter tests that were asked for and not run. */
  filterTestsRefused: number;
}

/** All zero. */
export function newCounters(): StunServerCounters {
  return {
    udpAnswers: 0,
    udpIgnored: 0,
    udpShortened: 0,
    udpLimited: 0,
    udpSendFailures: 0,
    tcpConnections: 0,
    tcpRefused: 0,
    tcpIdle: 0,
    tcpAnswers: 0,
    filterTests: 0,
    filterTestsRefused: 0,
  };
}

/**
 * TCP timers of Linux, with the names of its settings and constants.
 *
 * @module
 */

/**
 * Linux 6.5 and later: `tcp_syn_linear_timeouts` (4) waits of one second, then `tcp_syn_retries` (6) of 1, 2,
 * 4 ... seconds. SYNs leave at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s; the dial fails at 131 s.
 */
export const SYN_WAITS_MS: readonly number[] = [1000, 1000, 1000, 1000, ...doublingWaitsMs(6)];

/** SYN/ACK of a simultaneous open: `tcp_syn_retries`. */
export const SYN_ACK_WAITS_MS: readonly number[] = doublingWaitsMs(6);

/** SYN/ACK of a listener: `tcp_synack_retries`. */
export const PASSIVE_SYN_ACK_WAITS_MS: readonly number[] = doublingWaitsMs(5);

/**
 * `TCP_TIMEOUT_MIN`, two ticks: when the first SYN is retransmitted after an answer to an earlier
 * dial (tcp_rcv_synsent_state_process).
 */
export const EARLY_SYN_RETRANSMISSION_MS = 2;

/** `TCP_RTO_MIN`, which Linux adds to the round trip on a steady path. */
export const MIN_RTO_MS = 200;

/** `TCP_RTO_MAX`. */
export const MAX_RTO_MS = 120_000;

/** `tcp_retries2`. */
export const MAX_RETRIES = 15;

/** `TCP_TIMEWAIT_LEN`, and the default of `tcp_fin_timeout`. */
export const LINGER_MS = 60_000;

/** Waits of 1, 2, 4 ... seconds: `TCP_TIMEOUT_INIT`, doubled each time. */
function doublingWaitsMs(retries: number): number[] {
  return Array.from({ length: retries + 1 }, (_, i) => 1000 * 2 ** i);
}

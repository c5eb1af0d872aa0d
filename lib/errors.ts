/**
 * Every error that moepp raises on purpose.
 *
 * A wrong option or argument is a `TypeError` or `RangeError` that names it. All else (files,
 * checkpoints, devices, limits, lifecycle) is a `MoeppError` with one of the codes below. Both say
 * what, where, expected and got.
 */

/**
 * Kind of a failure. docs/troubleshooting.md has the remedies for each code.
 *
 * @example
 * ```ts
 * import { loadModel, MoeppError, type MoeppErrorCode } from 'moepp'
 *
 * const retry: readonly MoeppErrorCode[] = ['ERR_HUB', 'ERR_OUT_OF_MEMORY']
 * const model = await loadModel('npm:moepp-books-7m').catch(error => {
 *   if (error instanceof MoeppError && retry.includes(error.code)) return undefined
 *   throw error
 * })
 * ```
 */
export type MoeppErrorCode =
  /** A file or directory that is needed does not exist or cannot be read. */
  | 'ERR_NOT_FOUND'
  /** A file's bytes contradict its format: truncated, out of range, overlapping, malformed. */
  | 'ERR_BAD_FILE'
  /** A file or directory could not be written, or is there already. */
  | 'ERR_CANNOT_WRITE'
  /**
   * A file asks for something outside what moepp accepts from untrusted input (a pickle's global,
   * say).
   */
  | 'ERR_UNSAFE_FILE'
  /** config.json holds a value or a key that cannot be run exactly. */
  | 'ERR_BAD_CONFIG'
  /** A tensor is missing, or has another shape or dtype than the configuration says. */
  | 'ERR_BAD_WEIGHTS'
  /** The tokenizer is of a kind that cannot be reproduced exactly, or contradicts the model. */
  | 'ERR_BAD_TOKENIZER'
  /** A prompt does not fit: longer than the context, or empty. */
  | 'ERR_BAD_PROMPT'
  /** The checkpoint has no chat template: it is a base model, which continues texts. */
  | 'ERR_NO_CHAT_TEMPLATE'
  /** A chat template is malformed, refuses the messages, or passes a limit of time or size. */
  | 'ERR_BAD_TEMPLATE'
  /** A grammar is malformed, matches nothing, or asks for something that is not supported. */
  | 'ERR_BAD_GRAMMAR'
  /** A state file is damaged, or belongs to another model, type or layout of the KV cache. */
  | 'ERR_BAD_STATE'
  /** A recorded program is inconsistent: shapes, dtypes or names. */
  | 'ERR_BAD_PROGRAM'
  /** The device, or an op on it, does not exist on this machine or in this build. */
  | 'ERR_UNSUPPORTED'
  /** A CUDA device was asked for, and there is no NVIDIA driver, or no such device. */
  | 'ERR_NO_GPU'
  /** The NVIDIA driver is older than this build's CUDA runtime needs. */
  | 'ERR_DRIVER_TOO_OLD'
  /** The GPU is older than Turing, compute capability 7.5. */
  | 'ERR_GPU_TOO_OLD'
  /** A rank of a group that runs a model together died, hangs, or does not fit the others. */
  | 'ERR_PARALLEL'
  /** Memory could not be had, on the host or on the device. */
  | 'ERR_OUT_OF_MEMORY'
  /** A second run was started on something that is already running. */
  | 'ERR_BUSY'
  /** The object was closed before or during the call. */
  | 'ERR_CLOSED'
  /** An AbortSignal ended the call. */
  | 'ERR_ABORTED'
  /** The native addon could not be loaded. */
  | 'ERR_NO_BINDING'
  /** The hub or the network answered with an error, or a file is not what the hub lists. */
  | 'ERR_HUB'
  /**
   * A device or its driver failed, or computed no finite numbers, which damaged or too large
   * weights lead to as well.
   */
  | 'ERR_DEVICE'

/**
 * An expected failure. The message says what failed, where, what was expected and what was found.
 *
 * @example
 * ```ts
 * import { loadModel, MoeppError } from 'moepp'
 *
 * try {
 *   await loadModel('./no-such-folder')
 * } catch (error) {
 *   if (!(error instanceof MoeppError)) throw error
 *   console.error(error.code, error.message)
 * }
 * ```
 */
export class MoeppError extends Error {
  /** Always 'MoeppError'. */
  override readonly name = 'MoeppError'
  /** Kind of the failure. Codes are stable; messages are not. */
  readonly code: MoeppErrorCode
  /** Label of the op that failed, `layers.3.moe.gate_up`, when there is one. */
  declare readonly op?: string
  /** Of a prompt that is too long, ERR_BAD_PROMPT: its tokens. */
  declare readonly tokens?: {
    /**
     * Tokens that it has. Exact for token ids, and for a text of up to four times `most`. A text of
     * more, or one that is refused for its number of characters alone, has at least so many.
     */
    readonly got: number
    /** Tokens that fit. */
    readonly most: number
  }

  constructor(
    code: MoeppErrorCode,
    message: string,
    options: { op?: string; tokens?: { got: number; most: number }; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    if (options.op !== undefined) this.op = options.op
    if (options.tokens !== undefined) this.tokens = options.tokens
  }
}

/**
 * The two errors Hotrod throws.
 *
 * ModelError: the model, a file or the call is wrong, and the user can mend it. One sentence each: what, where, expected, hint.
 * Bug: Hotrod is wrong. It carries what a maintainer needs (pass, rule, printed IR) and never reaches a user silently.
 * Codes are stable: scripts may match on them. The table is the list of all of them.
 */

export const ERROR_CODES = {
  'file-missing': 'a file named in the call does not exist or cannot be read',
  'file-write': 'an output could not be written; nothing half-written is left',
  'onnx-parse': 'the bytes are not an ONNX model',
  'onnx-external-data': 'external data is missing, too short, or outside the folder of the model',
  'onnx-unsupported': 'the model uses operators or types that Hotrod does not have',
  'torch-parse': 'the bytes are not a PyTorch or safetensors file, or are damaged',
  'torch-refused': 'the checkpoint holds objects that are not tensors, and nothing in a file is ever executed',
  'torch-unsupported': 'the checkpoint or exported program uses types or operators that Hotrod does not have',
  'architecture-unknown': 'the weights are of no architecture that Hotrod knows',
  'weights-mismatch': 'weights are missing, too many or of the wrong shape for the architecture',
  'model-invalid': 'the model breaks a rule of its format or of an operator',
  'shape-mismatch': 'shapes of a node do not fit each other',
  'shape-open': 'a part of the model cannot be built for sizes that are left open',
  'shape-unknown': 'an input size is open and no shape was given for it',
  'option-invalid': 'an option or argument has a wrong value',
  'input-missing': 'run was called without one of the inputs',
  'input-unknown': 'run was called with a name that is not an input',
  'input-mismatch': 'an input has the wrong dtype or length',
  'engine-parse': 'the bytes are not an engine, or are damaged',
  'engine-version': 'the engine was written by a newer Hotrod',
  'engine-machine': 'the engine cannot run on this machine',
  'target-unavailable': 'the target is not available on this machine',
  'download-failed': 'a file could not be downloaded, or is not the one that was wanted',
  'picture-decode': 'the picture cannot be decoded',
  'package-missing': 'an optional package is needed and not installed',
  'out-of-memory': 'the machine has not enough memory for this engine',
  'device-code': 'the driver of a GPU refused the code: not valid, or for another chip',
  'device-lost': 'a GPU failed, or a kernel faulted on it: what was opened there is gone',
  'driver-error': 'the driver of a GPU refused a call',
  aborted: 'the caller aborted the build',
  disposed: 'an engine or context was used after dispose',
} as const;
export type ErrorCode = keyof typeof ERROR_CODES;

export class ModelError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  /** The single findings where one error reports several, in the model's order. */
  readonly details: readonly string[];
  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string; details?: readonly string[]; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ModelError';
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? [];
  }
}

export class Bug extends Error {
  readonly code: string;
  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(
      `${message} (this is a defect in Hotrod, please report it: ${code})`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = 'Bug';
    this.code = code;
  }
}

/**
 * Where a command's words go. stdout carries results only: text for people, or with `--json` one object and nothing else.
 * stderr carries everything on the way: notes, warnings, progress, errors.
 */

export interface Terminal {
  /** True where stdout is to carry one JSON object. */
  readonly json: boolean;
  /** True where stderr may be coloured and redrawn. */
  readonly interactive: boolean;
  /** The result, once a command: the object with `--json`, else the text. */
  result(object: object, text: () => string): void;
  note(message: string): void;
  warn(message: string): void;
}

export function processTerminal(json: boolean): Terminal {
  const warned = new Set<string>();
  return {
    json,
    interactive: !json && process.stderr.isTTY === true && process.stderr.columns > 0 && !process.env.NO_COLOR,
    result: (object, text) => {
      process.stdout.write(json ? `${JSON.stringify(object, finite)}\n` : `${text().trimEnd()}\n`);
    },
    note: (message) => process.stderr.write(`${message}\n`),
    warn: (message) => {
      if (warned.has(message)) return;
      warned.add(message);
      process.stderr.write(`warning: ${message}\n`);
    },
  };
}

/** JSON has no NaN and no infinities: they become strings, so that a reader can tell them from a missing value. */
const finite = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;

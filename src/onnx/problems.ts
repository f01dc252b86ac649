/**
 * Problems of a model, collected so that the user hears of all of them at once, and thrown as one ModelError.
 */
import { type ErrorCode, ModelError } from '../core/errors.ts';

export interface Problem {
  readonly code: ErrorCode;
  readonly message: string;
  /** The message without abridgement, where it is abridged. */
  readonly detail?: string;
  readonly hint?: string | undefined;
}

/** Lines of a message; `details` of the error has every problem. */
const LINES_SHOWN = 20;

/** Runs `work`; false where it threw a ModelError, which becomes a problem. Anything else is a defect and passes through. */
export function attempt(problems: Problem[], work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    problems.push({ code: error.code, message: error.message, hint: error.hint });
    return false;
  }
}

/** Throws where there are problems. The code is `onnx-unsupported` if any problem has it, else the first problem's. */
export function throwProblems(problems: readonly Problem[]): void {
  if (problems.length === 0) return;
  const chief = problems.find((p) => p.code === 'onnx-unsupported') ?? problems[0];
  const details = problems.map((p) => p.detail ?? p.message);
  const hint = chief.hint ?? problems.find((p) => p.hint !== undefined)?.hint;
  throw new ModelError(chief.code, summary(problems), { details, ...(hint !== undefined && { hint }) });
}

function summary(problems: readonly Problem[]): string {
  if (problems.length === 1) return problems[0].message;
  const shown = problems.slice(0, LINES_SHOWN).map((p) => `  ${p.message}`);
  if (problems.length > LINES_SHOWN) shown.push(`  and ${problems.length - LINES_SHOWN} more`);
  return `${problems.length} problems in the model:\n${shown.join('\n')}`;
}

/** The page with its model in it: one file that needs no other. */
import type { PageModel } from './page.ts';

const PLACE = '/*MODEL*/';

/** `template` is the built page. Markup in names cannot end the script that the model stands in. */
export function pageHtml(template: string, model: PageModel): string {
  const [before, after] = template.split(PLACE);
  const json = JSON.stringify(model, finite)
    .replaceAll('<', '\\u003c')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');
  return before + json + after;
}

const finite = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;

/**
 * Which Hotrod this is, to the byte: what was made by another may not be taken for what this one would make.
 */

/** Put in by scripts/bundle.mjs. */
declare const HOTROD_SOURCES: string | undefined;

/** SHA-256 of the sources that the package's entries were bundled from; undefined where modules run as they are. */
export const SOURCES: string | undefined = typeof HOTROD_SOURCES === 'undefined' ? undefined : HOTROD_SOURCES;

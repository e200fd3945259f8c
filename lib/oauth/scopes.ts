/** The scopes in a text or an array, separated by white space (RFC 6749 §3.3) or by commas, as GitHub, Slack and Strava do. */
export function scopesIn(scope: string | readonly string[] | undefined): string[] {
  return [scope ?? []]
    .flat()
    .flatMap((text) => text.split(/[\s,]+/))
    .filter((it) => it !== '')
}

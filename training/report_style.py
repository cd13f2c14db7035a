"""The style sheet of reports: light and dark, phone and paper. Series colours are --c0 to --c5 of `plots`."""

STYLE = """\
:root {
  --page: #ffffff; --text: #14161a; --soft: #5a616b; --line: #c6cad0; --panel: #f4f5f7; --link: #00598c;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b8578f; --c4: #b87f00; --c5: #3a93c9;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #15171b; --text: #e6e8eb; --soft: #a2a9b3; --line: #4b515a; --panel: #1e2126; --link: #6cc0f5;
    --c0: #4aa8e8; --c1: #f08040; --c2: #2fc79b; --c3: #e39ac6; --c4: #f0b840; --c5: #8fd0f5; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.25rem; max-width: 68rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
h1 { margin: 0 0 .25rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: 1.2rem; }
a { color: var(--link); }
nav ul {
  display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: .25rem 0 1.25rem; padding: 0; list-style: none;
  font-size: .92rem;
}
.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: .7rem 1.5rem;
  margin: 0; padding: 1rem; border-radius: .5rem; background: var(--panel);
}
dt { color: var(--soft); font-size: .8rem; }
dt::first-letter { text-transform: uppercase; }
dd { margin: 0; }
figure { margin: 0 0 1.25rem; }
figcaption { margin-top: .3rem; color: var(--soft); font-size: .86rem; line-height: 1.4; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .5rem 2rem;
  align-items: start;
}
.figures svg { display: block; width: 100%; max-width: 34rem; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
th, td { overflow-wrap: break-word; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
.pictures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); gap: .75rem;
  align-items: start;
}
.pictures figure { margin: 0; break-inside: avoid; }
.pictures img { display: block; width: 100%; height: auto; border-radius: .25rem; }
.pictures figcaption { font-size: .78rem; }
@media print {
  :root { --page: #ffffff; --text: #000000; --soft: #444444; --line: #bbbbbb; --panel: #f4f5f7; color-scheme: light;
    --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b8578f; --c4: #b87f00; --c5: #3a93c9; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { break-after: avoid; }
  .figures figure, tr { break-inside: avoid; }
}
"""

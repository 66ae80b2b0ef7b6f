"""The page's style sheet: light and dark, from 360 pixels up, and on paper."""

STYLE = """
:root{color-scheme:light dark;--back:#fff;--panel:#f5f6f8;--line:#d9dce3;--text:#1b1e25;--soft:#596173;
--pass:#13773b;--fail:#b3131f;--idle:#8a5a00;--passback:#e5f4ea;--failback:#fde8e8;--idleback:#fdf2dc;
--fp32:#4b5d7a;--fp16:#4a90c2;--int8:#3fa06b;--int4:#b98a1c;--int32:#8d6bb1;--other:#8b8f98}
@media (prefers-color-scheme:dark){:root{--back:#14161b;--panel:#1e2129;--line:#353a46;--text:#e7e9ee;--soft:#a2a9b8;
--pass:#5fd08b;--fail:#ff8087;--idle:#eab54e;--passback:#173224;--failback:#3d1a1e;--idleback:#382b12;
--fp32:#8ea3c6;--fp16:#6fb4e4;--int8:#63c790;--int4:#dcb048;--int32:#b696da;--other:#9a9ea8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1160px;padding:16px;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.35rem;margin:0 0 2px;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:34px 0 8px}
h3{font-size:1rem;margin:0 0 4px;overflow-wrap:anywhere}p{margin:4px 0 10px}
code{font:.85em/1.4 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.soft,.about,.legend,figcaption{color:var(--soft)}.about{font-size:.9rem}
.verdict{border-left:8px solid;border-radius:6px;padding:14px 18px;margin:12px 0 16px}
.verdict strong{font-size:1.9rem;line-height:1.2;letter-spacing:.02em;display:block}
.verdict p{margin:4px 0 0;color:var(--text)}
.verdict.pass{color:var(--pass);background:var(--passback)}.verdict.fail{color:var(--fail);background:var(--failback)}
.verdict.not_run{color:var(--idle);background:var(--idleback)}
.pass-text{color:var(--pass)}.fail-text,.problem{color:var(--fail);font-weight:600}.not_run-text{color:var(--idle);font-weight:600}
.info-text{color:var(--soft)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:10px;margin:10px 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:9px 12px;min-width:0}
.card b{display:block;font-size:.8rem;color:var(--soft);font-weight:600}
.card span{overflow-wrap:anywhere}
.levels{grid-template-columns:repeat(auto-fit,minmax(150px,1fr))}
ul{margin:4px 0 10px;padding-left:20px}li{margin:2px 0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th{text-align:left;color:var(--soft);font-weight:600;border-bottom:2px solid var(--line)}
td,th{padding:4px 10px 4px 0;vertical-align:top}td{border-bottom:1px solid var(--line);overflow-wrap:anywhere}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.fail td{background:var(--failback)}tr.not_run td{background:var(--idleback)}
td .reason{display:block;color:var(--soft);font-weight:400}
.margin{display:inline-block;width:90px;height:9px;background:var(--line);border-radius:2px;vertical-align:middle;
overflow:hidden;margin-right:6px}
.margin i{display:block;height:100%}.margin .kept{background:var(--pass)}.margin .near{background:var(--idle)}
.margin .over{background:var(--fail)}
.margin.own{position:relative;width:220px;max-width:60%;height:12px;overflow:visible}
.margin.own u{position:absolute;top:-3px;height:18px;width:0;border-left:2px solid var(--text)}
.margin.own u.own{border-left-style:dotted;border-color:var(--idle)}
.sound{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:12px 14px;margin:12px 0}
.figures{font-variant-numeric:tabular-nums;font-weight:600}
.tracks{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:14px}
.player b{display:block;font-size:.88rem;margin-bottom:4px}audio{width:100%;height:36px;display:block}
figure{margin:8px 0 0}figcaption{font-size:.8rem}
.axes{position:relative;padding:0 0 20px 46px}
.axes img{display:block;width:100%;height:150px;border:1px solid var(--line);image-rendering:auto}
.khz,.seconds{position:absolute;font-size:.7rem;color:var(--soft);white-space:nowrap}
.khz{left:0;top:0;width:42px;height:150px}.khz span{position:absolute;right:0;transform:translateY(-50%)}
.seconds{left:46px;right:0;bottom:0;height:18px}.seconds span{position:absolute}
.chart{max-width:560px}.chart svg{width:100%;height:auto;display:block;font-size:9.5px}
.chart text{fill:var(--text)}.chart .tick{fill:var(--soft);font-size:8.5px}.chart .grid{stroke:var(--line)}
.chart .limit{stroke:var(--fail);stroke-width:2}.chart rect.pass{fill:var(--pass)}.chart rect.fail{fill:var(--fail)}
.chart rect.info,.chart rect.not_run{fill:var(--other)}.chart rect.float{fill:var(--fp32)}
.legend{font-size:.85rem;display:flex;flex-wrap:wrap;gap:4px 18px}
.legend i{display:inline-block;width:14px;height:10px;margin-right:6px;border-radius:2px}.legend i.scale{width:74px}
.scale.heat{background:linear-gradient(90deg,#080814,#401668,#922876,#de5252,#faa054,#fcf4c8)}
.scale.signed{background:linear-gradient(90deg,#78c8ff,#225ea8,#161a24,#ac4622,#ffce78)}
.kind-fp32{background:var(--fp32);fill:var(--fp32)}.kind-fp16{background:var(--fp16);fill:var(--fp16)}
.kind-int8{background:var(--int8);fill:var(--int8)}.kind-int4{background:var(--int4);fill:var(--int4)}
.kind-int32{background:var(--int32);fill:var(--int32)}.kind-other{background:var(--other);fill:var(--other)}
dl{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:2px 14px;font-size:.88rem;margin:4px 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media (max-width:700px){
table.checks thead{display:none}
table.checks tr{display:grid;grid-template-columns:1fr 1fr;gap:0 12px;padding:8px;border:1px solid var(--line);
border-radius:6px;margin:8px 0}
table.checks td{border:0;padding:1px 0;background:none}table.checks td.number{text-align:left;white-space:normal}
table.checks td::before{content:attr(data-label);display:inline-block;min-width:66px;color:var(--soft);font-size:.8rem}
table.checks td.wide{grid-column:1/-1}table.checks td .margin{width:60px}
table.checks tr.fail{background:var(--failback)}
table.checks tr.not_run{background:var(--idleback)}table.checks td.empty{display:none}
.verdict strong{font-size:1.5rem}}
@media print{:root{color-scheme:light}body{max-width:none;padding:0;font-size:11px}audio{display:none}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.sound,.verdict,.card,tr{break-inside:avoid}h2{break-after:avoid}}
"""

"use strict";
let language = null;
try { language = localStorage.getItem("language"); } catch { /* a page from a disk may have no storage */ }
location.replace(`${language || (navigator.language.startsWith("zh") ? "zh" : "en")}/index.html`);

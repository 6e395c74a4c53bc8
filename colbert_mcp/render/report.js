// Colours the passages by one word of the question, or by the best of all words.
"use strict";
const words = [...document.querySelectorAll(".words button")];
const tokens = [...document.querySelectorAll(".t")].map((element) => {
  const similarities = element.dataset.s.split(" ").map(Number);
  return { element, similarities, best: Math.max(...similarities) };
});
function colour(word) {
  for (const { element, similarities, best } of tokens) {
    const percent = word < 0 ? best : similarities[word];
    // Similarities below a half say little: the scale starts there.
    element.style.setProperty("--h", Math.max(0, (percent - 50) / 50).toFixed(2));
    element.title = `${percent / 100}`;
  }
}
for (const button of words) {
  button.addEventListener("click", () => {
    for (const other of words) other.setAttribute("aria-pressed", String(other === button));
    colour(Number(button.dataset.word));
  });
}
const articles = [...document.querySelectorAll("article")];
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !["j", "k"].includes(event.key)) return;
  const here = articles.findIndex((article) => article.contains(document.activeElement));
  const next = Math.min(articles.length - 1, Math.max(0, here + (event.key === "j" ? 1 : -1)));
  articles[next]?.focus();
});

"""Texts by which two layouts of a model are compared: different matters, several scripts, punctuation, code."""

REFERENCE_TEXTS = (
    "The ferry leaves the north pier at six, unless the wind is above force eight.",
    "Knead the dough for ten minutes, let it rest, and bake it until the crust sings.",
    "def median(values): return sorted(values)[len(values) // 2]  # O(n log n)",
    "Invoice 2024-117: 3 × 49.90 € = 149.70 €, payable within 14 days (net).",
    "Der Förderverein trifft sich am ersten Dienstag im Monat; Gäste sind willkommen.",
    "L’écluse est fermée du 12 au 26 février : les péniches attendent à l’aval.",
    "El volcán entró en erupción anoche y el aeropuerto canceló todos los vuelos.",
    "Thư viện mở cửa từ thứ hai đến thứ bảy, trừ các ngày lễ.",
    "Пчёлы вылетают из улья, когда температура поднимается выше двенадцати градусов.",
    "Η βιβλιοθήκη του μοναστηριού φυλάσσει χειρόγραφα του δέκατου αιώνα.",
    "تبدأ المحاضرة في الساعة التاسعة صباحًا في القاعة الكبرى.",
    "הגשר החדש מעל הנחל ייפתח לתנועה בסוף הקיץ.",
    "मानसून की पहली बारिश के बाद किसान धान की रोपाई शुरू करते हैं।",
    "রাতের ট্রেন স্টেশন ছেড়ে যায় ঠিক এগারোটায়।",
    "ตลาดน้ำเปิดตั้งแต่เช้าตรู่และขายผลไม้สดทุกวัน",
    "茶叶应存放在阴凉干燥的地方,避免阳光直射。",
    "この橋は百年前に石工たちの手で架けられた。",
    "도서관은 월요일마다 휴관하며 책은 반납함에 넣을 수 있다.",
)

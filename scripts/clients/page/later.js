export const later = "imported";

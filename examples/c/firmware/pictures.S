@ The pictures, as they are in the file PICTURES.
    .section .rodata.pictures, "a"
    .global pictures, pictures_end
    .type pictures, %object
    .balign 16
pictures:
    .incbin PICTURES
pictures_end:
    .size pictures, . - pictures

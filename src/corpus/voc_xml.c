/*
 * The few elements of a VOC annotation that matter here, by their whole path, since parts of an object have names and
 * boxes as well:
 *
 *   annotation/object                              begins an object
 *   annotation/object/name                         its class
 *   annotation/object/bndbox/{xmin,ymin,xmax,ymax}
 */
#include "corpus/voc_xml.h"

#include "base/alloc.h"

#include <expat.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OBJECTS 100000
#define MAX_DEPTH 64
#define MAX_PATH_BYTES 128
#define MAX_TEXT 128

enum { XMIN, YMIN, XMAX, YMAX, N_ENDS };

typedef struct reading {
    XML_Parser parser;
    myr_voc_objects *objects;
    size_t capacity;
    char path[MAX_PATH_BYTES]; /* of the element we are in: "annotation/object/name" */
    size_t lengths[MAX_DEPTH]; /* of path before each element began; longer paths are not of ours */
    int depth;
    bool too_long; /* what path holds is not all of it */
    int long_depth;
    char text[MAX_TEXT + 1];
    size_t n_text;
    double ends[N_ENDS];
    bool has_end[N_ENDS];
    myr_status status;
} reading;

static void stop(reading *r, myr_status status)
{
    r->status = status;
    XML_StopParser(r->parser, XML_FALSE);
}

static void begin_object(reading *r)
{
    myr_voc_objects *all = r->objects;
    memset(r->has_end, 0, sizeof r->has_end);
    if (all->n == MAX_OBJECTS) {
        stop(r, myr_fail(MYR_ERR_LIMIT, "more than %d objects in one picture", MAX_OBJECTS));
        return;
    }
    if (all->n == r->capacity) {
        size_t more = r->capacity == 0 ? 8 : 2 * r->capacity;
        if (!myr_resize(&all->objects, r->capacity, more, sizeof *all->objects)) {
            stop(r, myr_fail(MYR_ERR_NOMEM, "not enough memory for an annotation"));
            return;
        }
        r->capacity = more;
    }
    all->objects[all->n++] = (myr_voc_object){0};
}

static void XMLCALL on_start(void *context, const XML_Char *name, const XML_Char **attributes)
{
    reading *r = context;
    (void)attributes;
    r->n_text = 0;
    if (r->depth == MAX_DEPTH) {
        stop(r, myr_fail(MYR_ERR_FORMAT, "more than %d elements deep", MAX_DEPTH));
        return;
    }
    size_t before = strlen(r->path), n = strlen(name);
    r->lengths[r->depth++] = before;
    if (r->too_long)
        return;
    if (before + n + 2 > sizeof r->path) {
        r->too_long = true;
        r->long_depth = r->depth;
        return;
    }
    snprintf(r->path + before, sizeof r->path - before, "%s%s", before > 0 ? "/" : "", name);
    if (strcmp(r->path, "annotation/object") == 0)
        begin_object(r);
}

static void XMLCALL on_text(void *context, const XML_Char *text, int n)
{
    reading *r = context;
    size_t room = MAX_TEXT - r->n_text, count = (size_t)n < room ? (size_t)n : room;
    memcpy(r->text + r->n_text, text, count);
    r->n_text += count;
}

/* The text without white space around it. */
static const char *trimmed(reading *r)
{
    while (r->n_text > 0 && strchr(" \t\r\n", r->text[r->n_text - 1]) != NULL)
        r->n_text--;
    r->text[r->n_text] = '\0';
    return r->text + strspn(r->text, " \t\r\n");
}

static void take_name(reading *r)
{
    myr_voc_object *object = &r->objects->objects[r->objects->n - 1];
    const char *name = trimmed(r);
    if (name[0] == '\0' || object->name != NULL)
        return;
    object->name = myr_strdup(name);
    if (object->name == NULL)
        stop(r, myr_fail(MYR_ERR_NOMEM, "not enough memory for an annotation"));
}

static void take_end(reading *r, const char *name)
{
    static const char *const names[N_ENDS] = {"xmin", "ymin", "xmax", "ymax"};
    const char *text = trimmed(r);
    char *end;
    for (int i = 0; i < N_ENDS; i++)
        if (strcmp(name, names[i]) == 0) {
            r->ends[i] = rint(strtod(text, &end)); /* some of 2011 have fractions */
            r->has_end[i] = end != text && *end == '\0' && fabs(r->ends[i]) < INT32_MAX / 2;
        }
}

static void finish_object(reading *r)
{
    const double *ends = r->ends;
    for (int i = 0; i < N_ENDS; i++)
        if (!r->has_end[i])
            return;
    if (ends[XMAX] < ends[XMIN] || ends[YMAX] < ends[YMIN])
        return;
    r->objects->objects[r->objects->n - 1].box = (myr_box){.x = (int32_t)ends[XMIN] - 1,
                                                           .y = (int32_t)ends[YMIN] - 1,
                                                           .width = (int32_t)(ends[XMAX] - ends[XMIN]) + 1,
                                                           .height = (int32_t)(ends[YMAX] - ends[YMIN]) + 1};
}

static void XMLCALL on_end(void *context, const XML_Char *element)
{
    static const char box[] = "annotation/object/bndbox/";
    reading *r = context;
    (void)element;
    if (!r->too_long && r->status == MYR_OK) {
        if (strcmp(r->path, "annotation/object/name") == 0)
            take_name(r);
        else if (strncmp(r->path, box, sizeof box - 1) == 0)
            take_end(r, r->path + sizeof box - 1);
        else if (strcmp(r->path, "annotation/object") == 0)
            finish_object(r);
    }
    if (r->too_long && r->depth == r->long_depth)
        r->too_long = false;
    r->path[r->lengths[--r->depth]] = '\0';
    r->n_text = 0;
}

static void XMLCALL on_doctype(void *context, const XML_Char *name, const XML_Char *system, const XML_Char *public,
                               int has_subset)
{
    (void)name;
    (void)system;
    (void)public;
    (void)has_subset;
    stop(context, myr_fail(MYR_ERR_FORMAT, "it has a DOCTYPE, which annotations of VOC have not"));
}

myr_status myr_voc_parse(const void *bytes, size_t n_bytes, myr_voc_objects *objects)
{
    reading r = {.objects = objects, .parser = XML_ParserCreate(NULL)};
    *objects = (myr_voc_objects){0};
    if (r.parser == NULL)
        return myr_fail(MYR_ERR_NOMEM, "not enough memory for an annotation");
    if (n_bytes > INT_MAX)
        r.status = myr_fail(MYR_ERR_LIMIT, "an annotation of %zu bytes", n_bytes);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    if (r.status == MYR_OK && XML_Parse(r.parser, bytes, (int)n_bytes, XML_TRUE) != XML_STATUS_OK && r.status == MYR_OK)
        r.status = myr_fail(MYR_ERR_FORMAT, "line %llu: %s", (unsigned long long)XML_GetCurrentLineNumber(r.parser),
                            XML_ErrorString(XML_GetErrorCode(r.parser)));
    XML_ParserFree(r.parser);
    if (r.status != MYR_OK)
        myr_voc_clear(objects);
    return r.status;
}

void myr_voc_clear(myr_voc_objects *objects)
{
    for (size_t i = 0; i < objects->n; i++)
        free(objects->objects[i].name);
    free(objects->objects);
    *objects = (myr_voc_objects){0};
}

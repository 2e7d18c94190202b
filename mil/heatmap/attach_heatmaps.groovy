// Attaches the heatmaps of a study to the images of a QuPath project, by name. For QuPath 0.4 and later.
//
// 1. Open the project, then this file: Automate > Script editor, File > Open.
// 2. Run > Run attaches to the open image, Run > Run for project to all images that you choose.
//
// An image demo_12.svs takes the heatmaps demo_12.geojson and demo_12.geojson.gz that lie in the folder of
// this script or below it. Objects keep their ids: whatever an earlier run attached is replaced, nothing doubles.

import groovy.io.FileType
import qupath.lib.io.PathIO

// Folder to search. Empty: the folder of this script.
def folder = ""
// Part of a path, such as "/abmil/": heatmaps of one head. Empty: those of all heads.
def only = ""
// false: contours of the most attended tiles alone, and no square for each tile.
def tiles = true

def root = folder ? new File(folder) : new File(getProperty("qupath.script.file") as String).parentFile
def image = getProjectEntry().getImageName()

// Of the slides a and a.b, the image a.b.svs is of the second.
def found = [:].withDefault { [] }
root.eachFileRecurse(FileType.FILES) { file ->
    def slide = file.name.replaceFirst(/\.geojson(\.gz)?$/, "")
    def path = file.path.replace("\\", "/")
    if (slide != file.name && path.contains(only) && (image == slide || image.startsWith(slide + ".")))
        found[slide] << file
}
if (found.isEmpty()) {
    println "${image}: no heatmap below ${root}"
    return
}
def longest = found.keySet().max { it.length() }

def hierarchy = getCurrentHierarchy()
found[longest].each { file ->
    def objects = PathIO.readObjects(file).findAll { tiles || it.isAnnotation() }
    def ids = objects.collect { it.getID() } as Set
    hierarchy.removeObjects(hierarchy.getAllObjects(false).findAll { it.getID() in ids }, true)
    hierarchy.addObjects(objects)
    println "${image}: ${objects.size()} objects of ${file}"
}

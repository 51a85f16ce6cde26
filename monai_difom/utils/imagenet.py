"""ImageNet's statistics, by which students' images and the input of most pretrained networks are normalised."""

#: mean of ImageNet images in [0, 1], by channel
IMAGENET_MEAN = (0.485, 0.456, 0.406)
#: standard deviation of ImageNet images in [0, 1], by channel
IMAGENET_STD = (0.229, 0.224, 0.225)
